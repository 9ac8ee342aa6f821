"""SigLIP on the start picture gives the same tokens as transformers' own processor and model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.companions.image import ImageCompanion, Preprocessing
from engine.companions.libraries import library
from engine.errors import ModelFilesError
from tests.rigs.models import full_size

SIZES = [(64, 96), (480, 832), (832, 480), (40, 40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image")
    torch.manual_seed(0)
    full_size.write_siglip(path, 24, 56)
    return path


@pytest.fixture(scope="module")
def companion(folder: Path) -> ImageCompanion:
    return ImageCompanion.load(folder, device="cpu", dtype=torch.float32)


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "broken")
    return tmp_path / "broken"


def picture(height: int, width: int, *, batch: int = 1, seed: int = 1) -> Tensor:
    """Smooth shapes with hard edges and noise, all 256 levels."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 6, 7, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noise = torch.rand(batch, 3, height, width, generator=g)
    return ((smooth > 0.5) * 0.4 + smooth * 0.3 + noise * 0.3).mul(255).to(torch.uint8)


def processed(folder: Path, pixels: Tensor) -> Tensor:
    """Preprocessed by transformers' Pillow processor, which FramePack uses."""
    processor = library("transformers.models.siglip.image_processing_pil_siglip").SiglipImageProcessorPil
    siglip: Any = processor.from_pretrained(folder / "feature_extractor")
    out: Tensor = siglip.preprocess(images=[p.permute(1, 2, 0).numpy() for p in pixels], return_tensors="pt")[
        "pixel_values"
    ]
    return out


def test_sizes_are_read_from_the_files(companion: ImageCompanion) -> None:
    assert (companion.tokens, companion.width) == (16, 24)
    assert not any(p.requires_grad for p in companion.parameters())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_preprocessing_is_pillows(folder: Path, height: int, width: int) -> None:
    pixels = picture(height, width, batch=2)
    ours, theirs = Preprocessing.read(folder)(pixels), processed(folder, pixels)
    levels = ((ours - theirs) * 127.5).abs()
    assert ours.shape == theirs.shape == (2, 3, 56, 56)
    assert levels.max() < 1.01
    assert (levels > 0.01).float().mean() < 1e-3


@pytest.mark.parametrize(("height", "width"), SIZES[:2])
def test_tokens_equal_those_of_transformers(
    folder: Path, companion: ImageCompanion, height: int, width: int
) -> None:
    pixels = picture(height, width, batch=2)
    model = library("transformers").SiglipVisionModel.from_pretrained(folder / "image_encoder").eval()
    with torch.no_grad():
        exact = model(pixel_values=companion.preprocessing(pixels)).last_hidden_state
        theirs = model(pixel_values=processed(folder, pixels)).last_hidden_state
    ours = companion(pixels)
    assert ours.shape == (2, companion.tokens, companion.width)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)
    similar = torch.nn.functional.cosine_similarity(ours, theirs, -1)
    assert similar.min() > 0.95  # a random network amplifies a difference of one level; few tokens see one
    assert similar.median() > 1 - 1e-5


def test_a_picture_gives_the_same_tokens_alone_and_in_a_batch(companion: ImageCompanion) -> None:
    pixels = picture(64, 96, batch=3)
    torch.testing.assert_close(companion(pixels[1:2]), companion(pixels)[1:2], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(companion(pixels[:1]), companion(pixels[1:2]), atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size": {"shortest_edge": 56}}, "is not SigLIP's preprocessing .KeyError: 'height'"),
        ({"resample": 5}, "is not SigLIP's preprocessing .KeyError: 5"),
        ({"image_mean": [0.5]}, "1 numbers instead of 3"),
        ({"do_resize": False}, "do_resize is off"),
        ({"size": {"height": 28, "width": 28}}, "resizes to .28, 28.*expects 56 squared"),
    ],
)
def test_other_preprocessing_is_refused(broken: Path, changes: dict[str, Any], match: str) -> None:
    path = broken / "feature_extractor" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelFilesError, match=match) as e:
        ImageCompanion.load(broken, device="cpu", dtype=torch.float32)
    assert "hf download lllyasviel/flux_redux_bfl --include" in e.value.message


def test_missing_weights_are_named(broken: Path) -> None:
    (broken / "image_encoder" / "model.safetensors").unlink()
    with pytest.raises(ModelFilesError, match=r"missing: image_encoder/model\*\.safetensors"):
        ImageCompanion.load(broken, device="cpu", dtype=torch.float32)
