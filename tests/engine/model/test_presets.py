"""Presets and `psistream model info`: one implementation at three sizes, counted without making a tensor."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.commands.model_info import info, main, step_flop, tokens_of
from engine.companions.libraries import library
from engine.errors import InvalidInput, ModelFilesError
from engine.model.conditions import denoise_inputs
from engine.model.config import ModelConfig
from engine.model.dit import EXTRA, MemoryPackDiT
from engine.model.framepack.transformer import FramePackDiT
from engine.model.presets import PRESETS, preset
from engine.model.wander.transformer import WanderDiT
from export.framepack.checkpoint import tensors_of
from server import cli
from tests.rigs.engine import tiny
from tests.rigs.models import framepack
from tests.rigs.paths import ROOT

BUILT_IN = ROOT / "engine" / "weights" / "wander"


def test_framepack_f1_has_the_public_checkpoints_parameters_to_the_last_one() -> None:
    """12.87 billion in 1274 tensors, as diffusers' class counts; and the split of them."""
    found = info("framepack-f1")
    assert found.backbone_parameters == 12_874_314_816
    assert found.backbone_tensors == 1274
    assert {name: round(found.parts[name] / 1e6, 1) for name in found.parts if name not in EXTRA} == {
        "transformer_blocks": 6796.6,
        "single_transformer_blocks": 5663.7,
        "context_embedder": 309.2,
        "image_projection": 38.9,
        "time_text_embed": 32.3,
        "norm_out": 18.9,
        "clean_x_embedder": 14.4,
        "x_embedder": 0.2,
        "proj_out": 0.2,
    }
    assert found.parts["norm_out"] + found.parts["proj_out"] == 19_077_184  # what the paper's stage 2 trains
    assert found.bytes_16_bit == 2 * found.parameters == 2 * sum(found.parts.values())
    assert 250e6 < found.parameters - found.backbone_parameters < 350e6


def test_framepack_f1_has_diffusers_names_and_shapes() -> None:
    c = PRESETS["framepack-f1"].config
    with torch.device("meta"):
        cls = library("diffusers").HunyuanVideoFramepackTransformer3DModel
        theirs = cls(has_image_proj=True, has_clean_x_embedder=True)
    backbone, _ = tensors_of(c)
    assert backbone == {n: tuple(p.shape) for n, p in theirs.state_dict().items()}


def test_framepack_f0_is_the_same_network() -> None:
    one, zero = PRESETS["framepack-f1"], PRESETS["framepack-f0"]
    assert zero.config == replace(one.config, packing=replace(one.config.packing, order="f0"))
    assert replace(zero, about=one.about, config=one.config) == one


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("framepack-f1", {"noisy": 14040, "1x": 1560, "2x": 390, "4x": 416, "anchor": 1560}),
        ("memorypack-1b3", {"noisy": 4680, "1x": 1560, "2x": 390, "4x": 416, "anchor": 1560}),
        ("wander", {"noisy": 120, "1x": 60, "2x": 15, "4x": 24, "anchor": 15}),
    ],
)
def test_tokens_are_those_of_framepacks_kernels(name: str, tokens: dict[str, int]) -> None:
    """480 x 832: 1560 tokens in a latent frame, 416 for sixteen of them."""
    found = tokens_of(PRESETS[name].config)
    assert {k: v for k, v in found.items() if k in tokens} == tokens
    assert found["ψ"] == found["image"] + found["text"]
    assert sum(tokens_of(PRESETS[name].config).values()) == info(name).tokens["ψ"] * 2 + sum(tokens.values())


def test_memorypack_1b3_has_the_size_that_its_name_says() -> None:
    assert 1.3e9 < info("memorypack-1b3").backbone_parameters < 1.4e9


def family(c: ModelConfig) -> MemoryPackDiT:
    return FramePackDiT(c) if c.hunyuan is not None else WanderDiT(c)


def counted(c: ModelConfig) -> int:
    """What torch counts while the model runs."""
    if c.hunyuan is not None:
        given = framepack.inputs(c, [3])
        given["image"] = torch.zeros(1, c.memory.tokens - c.memory.text_tokens, c.dim)
    else:
        given = tiny.inputs(c, batch=1)
    with torch.device("meta"):
        model = family(c)
    meta: dict[str, Tensor] = {name: x.to("meta") for name, x in given.items()}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*denoise_inputs(meta))
    return int(counter.get_total_flops())


@pytest.mark.slow
@pytest.mark.parametrize(
    "c",
    [
        tiny.DIT,
        PRESETS["wander"].config,
        framepack.CONFIG,
        framepack.at_size(framepack.CONFIG, *framepack.PADDED),
        replace(framepack.CONFIG, packing=replace(framepack.CONFIG.packing, anchor_kernel="none")),
        framepack.at_size(PRESETS["framepack-f1"].config, 4, 6),
    ],
    ids=["tiny", "wander", "small", "padded", "window", "full width"],
)
def test_the_cost_of_a_step_is_what_torch_counts(c: ModelConfig) -> None:
    assert step_flop(c) == counted(c)


def test_a_full_size_step_costs_564_tflop() -> None:
    found = info("framepack-f1")
    assert found.step_gflop == pytest.approx(564_104, rel=1e-5)
    assert found.segment_gflop == pytest.approx(25 * found.step_gflop)


def test_a_sessions_state_has_the_bytes_that_a_session_has() -> None:
    """As the engine makes it. Four bytes a number: history, anchor, prompt, the two prompts of a soft change,
    ψ, eight memories, decoder."""
    found = info("framepack-f1")
    frame, wide = 16 * 60 * 104, 3072
    tokens = 985 * wide
    decoder = 1 + 8 * frame
    prompt = 256 * 4096 + 768 + 2 + 256
    numbers = 20 * frame + 729 * wide + 3 * prompt + 9 * tokens + 2 * decoder + 985
    assert found.state_bytes == 4 * numbers + 8 * 12
    assert info(str(BUILT_IN)).state_bytes == info("wander").state_bytes


def test_a_converted_folder_tells_of_itself(tmp_path: Path) -> None:
    serve = {"height": 160, "width": 224, "fps": 30, "steps": 8}
    c = framepack.at_size(framepack.CONFIG, *framepack.PADDED)
    about = {"format": 1, "preset": "framepack-f1", "config": asdict(c), "serve": serve}
    (tmp_path / "config.json").write_text(json.dumps(about))
    found = info(str(tmp_path))
    assert (found.name, found.picture) == ("framepack-f1", (224, 160))
    assert found.segment_gflop == pytest.approx(8 * step_flop(c) / 1e9, abs=1e-3)
    with torch.device("meta"):
        assert found.parameters == sum(p.numel() for p in family(c).parameters())


def test_an_exported_folder_tells_of_itself() -> None:
    found = info(str(BUILT_IN))
    assert (found.parameters, found.picture) == (info("wander").parameters, (160, 96))
    assert found.about == str(BUILT_IN)


@pytest.mark.parametrize("text", ["{", "[]", '{"preset": "framepack-f1", "config": {"depth": 1}}'])
@pytest.mark.parametrize("file", ["config.json", "manifest.json"])
def test_a_folder_that_is_not_a_model_is_said_to_be_none(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(ModelFilesError, match=file):
        info(str(tmp_path))


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    names = "wander, memorypack-1b3, framepack-f1, framepack-f0, helios"
    known = rf"'framepack' is neither a preset \({names}\) nor the folder"
    with pytest.raises(InvalidInput, match=known):
        info("framepack")
    assert main(["info", "framepack"]) == 2
    with pytest.raises(InvalidInput, match="no model 'framepack'; known are wander"):
        preset("framepack")


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "framepack-f1"]) == 0
    text = capsys.readouterr().out
    assert "12,874,314,816 in 1274" in text
    assert "noisy 14,040" in text
    assert main(["info", "framepack-f1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["backbone_tensors"] == 1274
    assert data["tokens"]["noisy"] == 14040


@pytest.mark.parametrize("name", ["model", "convert"])
def test_the_commands_are_known_and_explain_themselves(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    assert f"usage: psistream {name}" in capsys.readouterr().out
