"""Helios' companions against diffusers and transformers, on tiny random weights in the public layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.companions.helios.files import CATALOGUE
from engine.companions.helios.taew import SegmentDecoder
from engine.companions.helios.text import TOKENS, TextCompanion
from engine.companions.helios.vae import WanVae
from engine.companions.libraries import library
from engine.companions.taehv import TinyDecoder
from engine.errors import ModelFilesError
from tests.rigs.models.full_size import taehv_weights
from tests.rigs.models.helios_companions import write_companions

CPU: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
COMPANIONS = [part for part in CATALOGUE.parts if part != "transformer"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_companions(tmp_path_factory.mktemp("helios"))


@pytest.fixture(scope="module")
def text(folder: Path) -> TextCompanion:
    return TextCompanion.load(folder, **CPU)


@pytest.fixture(scope="module")
def vae(folder: Path) -> WanVae:
    return WanVae.load(folder, **CPU)


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    """diffusers' own pipeline around the same companions."""
    diffusers, transformers = library("diffusers"), library("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
    return diffusers.HeliosPyramidPipeline(
        tokenizer=tokenizer,
        text_encoder=transformers.UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        vae=diffusers.AutoencoderKLWan.from_pretrained(folder / "vae"),
        scheduler=None,
        transformer=None,
        is_distilled=True,
    )


def some_pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def statistics(vae: WanVae) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the channels, in the shape that diffusers uses."""
    c = vae.model.config
    mean, std = (torch.tensor(v)[None, :, None, None, None] for v in (c.latents_mean, c.latents_std))
    return mean, std


# ---- text ----


@pytest.mark.parametrize(
    "prompt",
    ["a red fox", "", "  a\tred \n fox  ", "fox &amp;amp; snow", "cafÃ© in the snow", "a fox " * 400],
    ids=["plain", "empty", "spaces", "entities", "mojibake", "long"],
)
def test_text_equals_that_of_diffusers(text: TextCompanion, pipe: Any, prompt: str) -> None:
    ids, mask = text.tokenize(prompt)
    with torch.no_grad():
        expected, their_mask = pipe._get_t5_prompt_embeds(prompt, max_sequence_length=TOKENS)
    assert mask.tolist() == their_mask[0].float().tolist()
    found = text(torch.from_numpy(ids)[None], torch.from_numpy(mask)[None])
    assert found.shape == (1, TOKENS, text.width)
    assert (found - expected).abs().max() <= 1e-5


def test_states_after_the_end_of_a_prompt_are_zero(text: TextCompanion) -> None:
    ids, mask = text.tokenize("a red fox")
    found = text(torch.from_numpy(ids)[None], torch.from_numpy(mask)[None])[0]
    assert not found[int(mask.sum()) :].any()
    assert found[: int(mask.sum())].any(1).all()


def test_prompts_of_a_batch_do_not_mix(text: TextCompanion) -> None:
    pairs = [text.tokenize(p) for p in ("a red fox", "snow")]
    ids, mask = (torch.stack([torch.from_numpy(p[i]) for p in pairs]) for i in (0, 1))
    together = text(ids, mask)
    assert (together[1:] - text(ids[1:], mask[1:])).abs().max() <= 1e-5


# ---- autoencoder ----


def test_a_segment_decodes_as_in_diffusers(vae: WanVae) -> None:
    """Nine latents become 33 frames. Decoding them again gives the same: no cache is left behind."""
    latents = torch.randn(2, 9, 16, 4, 6, generator=torch.Generator().manual_seed(2))
    frames = vae(latents)
    assert frames.shape == (2, 33, 3, 32, 48)
    mean, std = statistics(vae)
    with torch.no_grad():
        theirs = vae.model.decode(latents.transpose(1, 2) * std + mean).sample.transpose(1, 2)
    levels = (theirs.clamp(-1, 1) + 1) * 127.5
    assert (frames.float() - levels).abs().max() <= 0.51
    assert torch.equal(vae(latents), frames)


def test_the_latents_of_a_start_picture_equal_those_of_diffusers(
    vae: WanVae, pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The anchor and the last latent of a still segment. diffusers samples; here its samples are modes."""
    distribution = library("diffusers.models.autoencoders.vae").DiagonalGaussianDistribution
    monkeypatch.setattr(distribution, "sample", lambda self, generator=None: self.mode())
    pixels = some_pixels(1, 3, 32, 48)
    mean, std = statistics(vae)
    with torch.no_grad():
        anchor, nearest = pipe.prepare_image_latents(
            pixels.float() / 127.5 - 1, mean, 1 / std, 9, torch.float32, torch.device("cpu")
        )
    found = vae.start(pixels, 9)
    assert (found.anchor.transpose(1, 2) - anchor).abs().max() <= 1e-5
    assert (found.nearest.transpose(1, 2) - nearest).abs().max() <= 1e-5
    assert (found.anchor - found.nearest).abs().max() > 1e-3


# ---- the fast decoder ----


def test_the_fast_decoder_keeps_no_state_between_segments(folder: Path) -> None:
    """The 33 frames are the public network's, without the three that it drops."""
    decoder = SegmentDecoder.load(folder, **CPU)
    latents = torch.randn(2, 9, 16, 4, 6, generator=torch.Generator().manual_seed(3))
    frames = decoder(latents)
    assert frames.shape == (2, 33, 3, 32, 48)
    whole, _ = decoder.decoder(latents, torch.zeros(2, decoder.decoder.state_size(4, 6)))
    assert torch.equal(frames, whole[:, 3:])
    assert torch.equal(decoder(latents[1:]), frames[1:])


# ---- files ----


def test_a_complete_folder_passes(folder: Path) -> None:
    CATALOGUE.require(folder, *COMPANIONS)


def test_an_empty_folder_lists_every_part_with_its_terms_and_command(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError) as e:
        CATALOGUE.require(tmp_path)
    for name, part in CATALOGUE.parts.items():
        assert f"  {name}: {part.what}" in e.value.message
        assert part.licence in e.value.message
    assert "psistream convert helios" in e.value.message
    assert "11.4 GB" in e.value.message


@pytest.mark.parametrize(
    ("part", "load"),
    [
        ("text_encoder", TextCompanion),
        ("tokenizer", TextCompanion),
        ("vae", WanVae),
        ("taew2_1", SegmentDecoder),
    ],
)
def test_a_broken_file_is_reported_with_the_fix(folder: Path, tmp_path: Path, part: str, load: Any) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    place = copy / part
    for file in [*place.rglob("*.safetensors"), *place.rglob("tokenizer.json"), *copy.glob(f"{part}.*")]:
        file.write_bytes(b"broken")
    with pytest.raises(ModelFilesError, match="fetch it again") as e:
        load.load(copy, **CPU)
    assert e.value.field == part


def test_another_models_tiny_decoder_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = taehv_weights()
    del weights["decoder.22.bias"]
    save_file(weights, tmp_path / "taew2_1.safetensors")
    with pytest.raises(ModelFilesError, match=r"lacks decoder\.22\.bias"):
        TinyDecoder.load(tmp_path, **CPU, catalogue=CATALOGUE, part="taew2_1")
