"""Incomplete model folders: one error lists everything that is missing, with source and licence."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.companions.files import PARTS, fetch, missing, require
from engine.companions.image import ImageCompanion
from engine.companions.libraries import library
from engine.companions.taehv import TinyDecoder
from engine.companions.text import LlamaClipText
from engine.companions.vae import Vae
from engine.errors import InvalidInput, ModelFilesError, Unavailable
from tests.rigs.models.full_size import write_tiny_companions

COMPANIONS = [part for part in PARTS if part != "transformer"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_companions(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "my weights")


def test_a_complete_folder_passes(folder: Path) -> None:
    require(folder, *COMPANIONS)
    with pytest.raises(
        ModelFilesError, match=r"transformer: .*\n.*missing: config.json, model\*.safetensors"
    ):
        require(folder)
    (folder / "config.json").touch()
    (folder / "model-00001-of-00001.safetensors").touch()
    require(folder)


def test_an_empty_folder_lists_every_part_with_its_terms_and_command(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError) as e:
        require(tmp_path)
    for name, part in PARTS.items():
        assert f"  {name}: {part.what}" in e.value.message
        assert part.licence in e.value.message
        assert f"    {fetch(name, tmp_path)}" in e.value.message
    assert "15.0 GB, Meta Llama 3 Community License" in e.value.message
    assert "European Union, the United Kingdom and South Korea" in e.value.message
    assert e.value.field == "transformer"


def test_a_missing_folder_has_its_own_message(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"there is no folder .*nowhere; create it"):
        require(tmp_path / "nowhere", "vae")


@pytest.mark.parametrize("part", COMPANIONS)
def test_only_what_is_missing_is_listed(folder: Path, part: str) -> None:
    for name in PARTS[part].files:
        for path in {p for n in name.split("|") for p in folder.glob(n)}:
            path.unlink()
    with pytest.raises(ModelFilesError) as e:
        require(folder, *COMPANIONS)
    assert [line.split(":")[0].strip() for line in e.value.message.splitlines()[1::3]] == [part]
    assert e.value.field == part


def test_commands_survive_a_folder_with_a_space(folder: Path) -> None:
    assert fetch("vae", folder) == (
        f"hf download hunyuanvideo-community/HunyuanVideo --include 'vae/*' --local-dir '{folder}'"
    )
    assert f"-o '{folder}/taehv.safetensors' https://github.com/madebyollin/taehv" in fetch("taehv", folder)
    assert fetch("transformer", Path("w")) == (
        "hf download lllyasviel/FramePack_F1_I2V_HY_20250503 --local-dir w-checkpoint"
        " && psistream convert framepack-f1 w-checkpoint w"
    )


def test_every_shard_that_the_index_names_is_needed(folder: Path) -> None:
    shards = sorted((folder / "text_encoder").glob("model-*.safetensors"))
    shards[0].unlink()
    shards[-1].unlink()
    assert missing(folder, "text_encoder") == [f"text_encoder/{s.name}" for s in (shards[0], shards[-1])]
    (folder / "text_encoder" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelFilesError, match=r"index\.json is not a weight index"):
        require(folder, "text_encoder")


def test_an_unknown_part_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="unknown part 'unet'; known are"):
        require(folder, "unet")


@pytest.mark.parametrize(
    ("name", "companion"),
    [("transformers", LlamaClipText), ("transformers", ImageCompanion), ("diffusers", Vae)],
)
def test_a_missing_library_is_one_line_that_says_what_to_install(
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    companion: type[LlamaClipText | ImageCompanion | Vae],
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unavailable, match=rf"needs {name}.*: pip install 'psistream\[full\]'$") as e:
        companion.load(whole, device="cpu", dtype=torch.float32)
    assert "\n" not in e.value.message


def test_nothing_is_fetched_while_loading(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    library("transformers")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for companion in (LlamaClipText, ImageCompanion, Vae, TinyDecoder):
        companion.load(whole, device="cpu", dtype=torch.float32)


def picture() -> Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, 3, 64, 96), generator=g, dtype=torch.uint8)


def test_companions_fit_each_other(whole: Path) -> None:
    """One picture in, its latent, and frames of the same size out."""
    pixels = picture()
    image = ImageCompanion.load(whole, device="cpu", dtype=torch.float32)
    vae = Vae.load(whole, device="cpu", dtype=torch.float32)
    tiny = TinyDecoder.load(whole, device="cpu", dtype=torch.float32)
    latent = vae.encode(pixels)
    frames, _ = tiny(latent, torch.zeros(1, tiny.state_size(8, 12)))
    assert image(pixels).shape == (1, 16, 24)
    assert latent.shape == (1, 1, 16, 8, 12)
    assert frames.shape == (1, 4, 3, 64, 96)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_answers_in_fp32_and_about_the_same(whole: Path, dtype: torch.dtype) -> None:
    pixels = picture()
    answers = []
    for precision in (torch.float32, dtype):
        text = LlamaClipText.load(whole, device="cpu", dtype=precision)
        image = ImageCompanion.load(whole, device="cpu", dtype=precision)
        vae = Vae.load(whole, device="cpu", dtype=precision)
        tiny = TinyDecoder.load(whole, device="cpu", dtype=precision)
        ids, mask = text.tokenize("a red fox")
        latent = vae.encode(pixels)
        frames, state = tiny(latent, torch.zeros(1, tiny.state_size(8, 12)))
        heard = text(torch.from_numpy(ids)[None], torch.from_numpy(mask)[None])
        assert all(
            x.dtype == torch.float32 for x in (*heard, image(pixels), latent, state, vae.decode(latent))
        )
        answers.append((heard[0], heard[2], image(pixels), latent, vae.decode(latent), frames.float() / 255))
    for exact, half in zip(*answers, strict=True):
        assert (exact - half).pow(2).mean() < 0.01 * exact.var() + 1e-4
