"""`psistream convert helios`: a checkpoint written by diffusers becomes our model exactly, or is refused with
the reason."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.backends.helios import load_transformer
from engine.errors import InvalidInput, ModelFilesError
from engine.model.helios.config import HeliosConfig
from engine.model.helios.serve import read_conversion
from engine.model.helios.transformer import HeliosTransformer
from export import convert as command
from export.helios.convert import HeliosOptions, convert
from export.helios.lora import LoraFile, parse
from server import cli
from tests.rigs.models.helios import SMALL, inputs, make_pair, ours_on, scheduler_of_the_checkpoint, theirs_on

OPTIONS = HeliosOptions(height=128, width=192, segment=3, dtype="stored")
FLAGS = ["--height", "128", "--width", "192", "--segment", "3", "--dtype", "stored"]
C = replace(SMALL, text_tokens=512)  # as every Helios
RANK = 3


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def theirs() -> Any:
    return make_pair(C)[1]


@pytest.fixture(scope="module")
def public(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of the download: transformer/ in shards, scheduler/."""
    folder = tmp_path_factory.mktemp("public")
    theirs.save_pretrained(folder / "transformer", max_shard_size="60KB")
    assert len([*(folder / "transformer").glob("diffusion_pytorch_model-*.safetensors")]) > 2
    scheduler_of_the_checkpoint().save_pretrained(folder / "scheduler")
    return folder


def loaded(out: Path) -> HeliosTransformer:
    return load_transformer(out, read_conversion(out).config, torch.device("cpu"), torch.float32)


def test_a_converted_checkpoint_computes_what_diffusers_computes(
    public: Path, theirs: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert command.main(["helios", str(public), str(out), *FLAGS]) == 0
    model = loaded(out)
    assert model.config == C
    given = inputs(C, 2, 2)
    with torch.no_grad():
        assert (ours_on(model, given) - theirs_on(theirs, C, given)).abs().max() <= 1e-5


def test_the_transformers_folder_alone_is_enough(public: Path, tmp_path: Path) -> None:
    convert(public / "transformer", tmp_path / "a", OPTIONS, quiet)
    convert(public, tmp_path / "b", OPTIONS, quiet)
    a, b = loaded(tmp_path / "a").state_dict(), loaded(tmp_path / "b").state_dict()
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_exact_tensors_stay_in_fp32(public: Path, tmp_path: Path) -> None:
    convert(public, tmp_path, replace(OPTIONS, dtype="bf16"), quiet)
    kinds = {n: t.dtype for file in tmp_path.glob("model-*") for n, t in load_file(file).items()}
    exact = {n for n, kind in kinds.items() if kind == torch.float32}
    assert {n for n in exact if n.startswith("blocks.0.")} == {
        "blocks.0.norm2.bias",
        "blocks.0.norm2.weight",
        "blocks.0.scale_shift_table",
    }
    assert "condition_embedder.time_embedder.linear_1.weight" in exact
    assert "norm_out.scale_shift_table" in exact
    assert kinds["blocks.0.attn1.norm_q.weight"] == torch.bfloat16
    held = read_conversion(tmp_path).config
    low = load_transformer(tmp_path, held, torch.device("cpu"), torch.bfloat16)
    assert low.blocks[0].norm2.weight.dtype == torch.float32  # type: ignore[union-attr]
    given = inputs(C, 1, 0)
    with torch.no_grad():
        floats = {n: v.bfloat16() if v.is_floating_point() else v for n, v in given.items()}
        assert torch.isfinite(ours_on(low, floats)).all()


def test_grafted_memory_changes_nothing_at_first(public: Path, tmp_path: Path) -> None:
    convert(public, tmp_path / "plain", OPTIONS, quiet)
    convert(public, tmp_path / "with", replace(OPTIONS, memory=True), quiet)
    plain, grafted = loaded(tmp_path / "plain"), loaded(tmp_path / "with")
    pack = grafted.semantic_pack
    assert pack is not None
    assert torch.equal(pack.memorize.embed.weight, plain.patch_short.weight)
    given = inputs(C, 1, 2)
    psi = torch.randn(1, pack.memorize.queries.shape[1], C.dim)
    with torch.no_grad():
        assert torch.equal(ours_on(grafted, given, psi=psi), ours_on(plain, given))


# ---- what is refused ----


def test_an_empty_folder_says_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError) as e:
        convert(tmp_path, tmp_path / "out", OPTIONS, quiet)
    assert "57.2 GB, Apache License 2.0" in e.value.message or "57.3 GB" in e.value.message
    assert "hf download BestWishYsh/Helios-Distilled --include 'transformer/*'" in e.value.message


def test_a_missing_shard_is_named(public: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(public, tmp_path / "in")
    lost = sorted((folder / "transformer").glob("diffusion_pytorch_model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelFilesError, match=f"missing: transformer/{lost.name}"):
        convert(folder, tmp_path / "out", OPTIONS, quiet)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("is_amplify_history", True, "is_amplify_history is True, but must be False"),
        ("window_size", 3, "window_size is unknown"),
        ("qk_norm", "rms_norm", "qk_norm is 'rms_norm'"),
        ("_class_name", "WanTransformer3DModel", "must be HeliosTransformer3DModel"),
        ("rope_dim", [4, 4, 6], "rope_axes"),
    ],
)
def test_another_network_is_refused_by_name(
    public: Path, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    folder = shutil.copytree(public, tmp_path / "in")
    file = folder / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ModelFilesError, match=message):
        convert(folder, tmp_path / "out", OPTIONS, quiet)


@pytest.mark.parametrize(
    ("key", "value"), [("gamma", 0.5), ("use_dynamic_shifting", False), ("time_shift_type", "exponential")]
)
def test_another_models_schedule_is_refused(public: Path, tmp_path: Path, key: str, value: Any) -> None:
    """Helios-Mid has the same transformer and another schedule."""
    folder = shutil.copytree(public, tmp_path / "in")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ModelFilesError, match=f"{key} is {value!r}"):
        convert(folder, tmp_path / "out", OPTIONS, quiet)


def test_tensors_too_many_or_too_few_are_named(public: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(public / "transformer", tmp_path / "in")
    file = sorted(folder.glob("diffusion_pytorch_model-*.safetensors"))[0]
    held = load_file(file)
    first = sorted(held)[0]
    save_file({"surplus": torch.zeros(2), **{n: t for n, t in held.items() if n != first}}, file)
    with pytest.raises(ModelFilesError, match="too many: surplus") as e:
        convert(folder, tmp_path / "out", OPTIONS, quiet)
    assert f"missing: {first}" in e.value.message


@pytest.mark.parametrize("side", [480, 100, 0])
def test_a_side_that_the_pyramid_cannot_halve_is_refused(public: Path, tmp_path: Path, side: int) -> None:
    with pytest.raises(InvalidInput, match="must be a multiple of 64"):
        convert(public, tmp_path, replace(OPTIONS, height=side), quiet)


@pytest.mark.parametrize("words", [["helios", "--help"], ["--help"]])
def test_the_command_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["convert", *words]) == 0
    assert "usage: psistream convert" in capsys.readouterr().out


# ---- LoRA ----


def pair_of(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(RANK, shape[1], generator=g), torch.randn(shape[0], RANK, generator=g)


def write_lora(file: Path, names: dict[str, str], alpha: float | None = None) -> dict[str, Tensor]:
    """`names` maps our names to those in the file. Returns the expected changes of our weights."""
    held: dict[str, Tensor] = {}
    change: dict[str, Tensor] = {}
    for seed, (ours, public) in enumerate(names.items()):
        down, up = pair_of((C.dim, C.dim), seed)
        held |= {f"{public}.lora_A.weight": down, f"{public}.lora_B.weight": up}
        change[f"{ours}.weight"] = up @ down * (1 if alpha is None else alpha / RANK)
        if alpha is not None:
            held[f"{public}.alpha"] = torch.tensor(alpha)
    save_file(held, file)
    return change


OURS = [f"blocks.{n}.{part}" for n in (0, 1) for part in ("attn1.to_q", "attn2.to_out.0")]
WANS = [f"diffusion_model.blocks.{n}.{part}" for n in (0, 1) for part in ("self_attn.q", "cross_attn.o")]


@pytest.mark.parametrize("strength", [1.0, -0.5])
@pytest.mark.parametrize(
    ("public_names", "alpha"),
    [([f"transformer.{n}" for n in OURS], None), (WANS, 6.0)],
    ids=["diffusers", "wan"],
)
def test_a_lora_is_merged_into_the_weights_that_it_names(
    public: Path, tmp_path: Path, public_names: list[str], alpha: float | None, strength: float
) -> None:
    file = tmp_path / "style.safetensors"
    change = write_lora(file, dict(zip(OURS, public_names, strict=True)), alpha)
    convert(public, tmp_path / "plain", OPTIONS, quiet)
    convert(public, tmp_path / "with", replace(OPTIONS, loras=(LoraFile(file, strength),)), quiet)
    plain, merged = loaded(tmp_path / "plain").state_dict(), loaded(tmp_path / "with").state_dict()
    for name in plain:
        expected = plain[name] + strength * change.get(name, torch.zeros(()))
        assert (merged[name] - expected).abs().max() <= 1e-5, name


def test_a_lora_of_another_model_is_refused(public: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    write_lora(file, {"blocks.7.attn1.to_q": "transformer.blocks.7.attn1.to_q"})
    with pytest.raises(ModelFilesError, match=r"blocks\.7\.attn1\.to_q .*no such tensor"):
        convert(public, tmp_path / "out", replace(OPTIONS, loras=(LoraFile(file, 1.0),)), quiet)


@pytest.mark.parametrize("text", ["no such file", "", "{}"])
def test_a_file_that_is_no_lora_is_refused(public: Path, tmp_path: Path, text: str) -> None:
    file = tmp_path / "what.safetensors"
    if text != "no such file":
        file.write_text(text)
    with pytest.raises(ModelFilesError, match=r"what\.safetensors"):
        convert(public, tmp_path / "out", replace(OPTIONS, loras=(LoraFile(file, 1.0),)), quiet)


def test_a_dora_is_refused_rather_than_half_merged(public: Path, tmp_path: Path) -> None:
    file = tmp_path / "dora.safetensors"
    write_lora(file, {"blocks.0.attn1.to_q": "transformer.blocks.0.attn1.to_q"})
    scale = {"transformer.blocks.0.attn1.to_q.dora_scale": torch.ones(3)}
    save_file({**load_file(file), **scale}, file)
    with pytest.raises(ModelFilesError, match="DoRA"):
        convert(public, tmp_path / "out", replace(OPTIONS, loras=(LoraFile(file, 1.0),)), quiet)


def test_the_strength_follows_the_file_name() -> None:
    assert parse("a/b.safetensors@0.8") == LoraFile(Path("a/b.safetensors"), 0.8)
    assert parse("a/b.safetensors") == LoraFile(Path("a/b.safetensors"), 1.0)
    with pytest.raises(InvalidInput, match="'much' in 'b@much' is not a number"):
        parse("b@much")


def test_helios_config_of_a_full_checkpoint_is_the_default() -> None:
    """The class's defaults are the values in the public files."""
    from export.helios.checkpoint import SIZES

    c = HeliosConfig()
    assert (SIZES["num_attention_heads"], SIZES["ffn_dim"], SIZES["rope_dim"]) == (40, 13824, [44, 42, 42])
    assert (c.heads, c.feed_forward, list(c.rope_axes)) == (40, 13824, [44, 42, 42])
