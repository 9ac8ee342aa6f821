"""`psistream convert` refuses checkpoints of other networks and missing or corrupt files. The error names
every difference, and nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import InvalidInput, ModelFilesError
from export.checkpoint.public import NAME
from export.framepack.convert import FramePackOptions, convert
from tests.rigs.models import framepack
from tests.rigs.models.framepack import amend

C = framepack.at_size(framepack.CONFIG, 4, 6)
OPTIONS = FramePackOptions(height=32, width=48, segment=C.segment, image_tokens=framepack.IMAGE)
INDEX = f"{NAME}.safetensors.index.json"


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return framepack.write_public(tmp_path_factory.mktemp("public"), framepack.theirs(C))


def copied(public: Path, folder: Path) -> Path:
    shutil.copytree(public, folder)
    return folder


def spoil(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Let `change` alter the tensors of the second shard."""
    file = sorted(folder.glob("*.safetensors"))[1]
    tensors: dict[str, Tensor] = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_every_tensor_that_differs_is_named_at_once(public: Path, tmp_path: Path) -> None:
    folder = copied(public, tmp_path / "in")
    first: list[str] = []

    def change(tensors: dict[str, Tensor]) -> None:
        first.extend(sorted(tensors))
        del tensors[first[0]], tensors[first[1]]
        tensors[first[2]] = torch.zeros(3)
        tensors[first[3]] = tensors[first[3]].to(torch.float64)
        tensors["lora.up"] = torch.zeros(2, 2)

    spoil(folder, change)
    with pytest.raises(ModelFilesError) as e:
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)
    text = e.value.message
    assert "5 of 166 tensors differ" in text
    assert f"missing: {first[0]} (" in text
    assert f"missing: {first[1]} (" in text
    assert f"misshaped: {first[2]} is (3,), must be (" in text
    assert f"type: {first[3]} is F64, must be one of BF16, F16, F32" in text
    assert "too many: lora.up (2, 2), in diffusion_pytorch_model-00002" in text
    assert not (tmp_path / "out").exists()


def test_a_tensor_in_two_shards_is_refused(public: Path, tmp_path: Path) -> None:
    folder = copied(public, tmp_path / "in")
    last = max(folder.glob("*.safetensors"))
    name, tensor = next(iter(load_file(last).items()))
    spoil(folder, lambda tensors: tensors.update({name: tensor}))
    with pytest.raises(ModelFilesError, match=rf"twice: {name}, in .*00002-of-.* and in {last.name}"):
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 3}, "frames is unknown"),
        ({"_class_name": "WanTransformer3DModel"}, "_class_name is 'WanTransformer3DModel'"),
        ({"patch_size": 4}, "patch_size is 4, but must be 2"),
        ({"out_channels": 32}, "out_channels is 32, but must be 16"),
        ({"has_clean_x_embedder": None}, "has_clean_x_embedder is False, but must be True"),
        ({"has_image_proj": False}, "has_image_proj is False"),
        (
            {"image_condition_type": "token_replace"},
            "image_condition_type is 'token_replace', but must be None",
        ),
        ({"mlp_ratio": 2.0}, "mlp_ratio is 2.0"),
        ({"num_layers": "2"}, "num_layers is '2', but must be a whole number above 0"),
        ({"num_layers": True}, "num_layers is True"),
        ({"rope_axes_dim": [4, 6]}, r"rope_axes_dim is \[4, 6\], but must be 3 whole numbers"),
        ({"rope_axes_dim": [4, 6, 8]}, r"rope_axes \(4, 6, 8\) must sum to"),
        ({"num_layers": 3}, "missing: transformer_blocks.2.norm1.linear.weight"),
        ({"num_single_layers": 1}, "too many: single_transformer_blocks.1.norm.linear.weight"),
        (
            {"text_embed_dim": 32},
            r"misshaped: context_embedder.proj_in.weight is \(32, 24\), must be \(32, 32\)",
        ),
    ],
)
def test_a_config_of_another_network_is_refused(
    public: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = copied(public, tmp_path / "in")
    amend(folder, **change)
    with pytest.raises(ModelFilesError, match=message):
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)


def test_sizes_may_be_left_out_where_they_are_the_public_ones(public: Path, tmp_path: Path) -> None:
    folder = copied(public, tmp_path / "in")
    amend(folder, in_channels=None, out_channels=None, rope_theta=None, mlp_ratio=None, qk_norm=None)
    convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ("config.json", "config.json not found"),
        (INDEX, "has neither diffusion_pytorch_model.safetensors.index.json nor"),
        ("shard", "00001-of-.* is missing; fetch"),
    ],
)
def test_files_that_lack_are_named(public: Path, tmp_path: Path, spoilt: str, message: str) -> None:
    folder = copied(public, tmp_path / "in")
    (min(folder.glob("*.safetensors")) if spoilt == "shard" else folder / spoilt).unlink()
    with pytest.raises(ModelFilesError, match=message):
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)


@pytest.mark.parametrize("name", ["config.json", INDEX, "shard"])
def test_corrupt_files_are_named(public: Path, tmp_path: Path, name: str) -> None:
    folder = copied(public, tmp_path / "in")
    file = min(folder.glob("*.safetensors")) if name == "shard" else folder / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelFilesError, match=file.name) as e:
        convert("framepack-f1", folder, tmp_path / "out", OPTIONS, quiet)
    assert "\n" not in e.value.message


@pytest.mark.parametrize(
    ("change", "field"),
    [({"height": 40}, "height"), ({"width": 0}, "width"), ({"segment": 0}, "segment")],
)
def test_impossible_sizes_are_refused(
    public: Path, tmp_path: Path, change: dict[str, int], field: str
) -> None:
    with pytest.raises(InvalidInput, match=f"--{field} is") as e:
        convert("framepack-f1", public, tmp_path / "out", replace(OPTIONS, **change), quiet)  # type: ignore[arg-type]
    assert e.value.field == field


def test_a_model_without_a_public_checkpoint_is_refused(public: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no public checkpoint of .memorypack-1b3."):
        convert("memorypack-1b3", public, tmp_path, OPTIONS, quiet)
