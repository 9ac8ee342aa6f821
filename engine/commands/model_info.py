"""`psistream model info NAME|DIR`: the size of a model and the cost of a step, without its weights.

NAME is a preset; DIR is a folder of `psistream convert` or `psistream export`. Everything is counted on the
meta device, so no tensor is allocated and nothing is measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from engine.commandline.parser import Parser
from engine.commandline.runner import OK, run
from engine.commands.helios_info import helios_info, is_helios
from engine.companions.sizes import framepack_spec
from engine.errors import InvalidInput, ModelFilesError
from engine.model.config import BAD_CONFIG, ModelConfig, build
from engine.model.dit import EXTRA, MemoryPackDiT
from engine.model.framepack.roles import Serve
from engine.model.framepack.transformer import FramePackDiT
from engine.model.helios.serve import NAME as HELIOS
from engine.model.packing import KERNELS, pieces
from engine.model.presets import PRESETS
from engine.model.signature import ModelSpec
from engine.model.text.encoder import TextConfig
from engine.model.wander.autoencoder import AutoencoderConfig
from engine.model.wander.world_model import WorldModel, WorldModelConfig
from engine.runtime.state.state import SessionState

NAMES = (*PRESETS, HELIOS)
WAVES = 256  # sinusoids that embed a scalar


@dataclass(frozen=True)
class Info:
    """The size and cost of a model."""

    name: str
    about: str
    parameters: int  # of the transformer with its memory
    tensors: int
    backbone_parameters: int  # of those that a FramePack checkpoint has
    backbone_tensors: int
    parts: dict[str, int]  # parameters by the first part of their names
    beside: dict[str, int]  # parameters of the other networks that we trained
    bytes_16_bit: int  # of the transformer's weights in bf16 or fp16
    picture: tuple[int, int]  # width, height
    segment_frames: int
    segment_s: float
    tokens: dict[str, int]  # of one segment
    state_bytes: int  # of a session of any length
    step_gflop: float  # one denoise step of one session; a multiply-add is two
    segment_gflop: float  # all its steps

    def lines(self) -> list[str]:
        """A table for the terminal."""
        total = sum(self.tokens.values())
        rows = [
            ("parameters", f"{self.parameters:,} in {self.tensors} tensors"),
            ("  backbone", f"{self.backbone_parameters:,} in {self.backbone_tensors}"),
            (
                "  added",
                f"{self.parameters - self.backbone_parameters:,} in {self.tensors - self.backbone_tensors}",
            ),
            *((f"  {name}", f"{count:,}") for name, count in self.parts.items()),
            *((f"beside: {name}", f"{count:,}") for name, count in self.beside.items()),
            ("weights in bf16 or fp16", f"{self.bytes_16_bit:,} bytes"),
            ("picture", f"{self.picture[0]} x {self.picture[1]}"),
            ("segment", f"{self.segment_frames} frames, {self.segment_s:g} s"),
            ("tokens of a segment", f"{total:,}: " + ", ".join(f"{n} {c:,}" for n, c in self.tokens.items())),
            ("state of a session", f"{self.state_bytes:,} bytes"),
            ("a denoise step", f"{self.step_gflop:,.1f} GFLOP"),
            ("a segment", f"{self.segment_gflop:,.1f} GFLOP"),
        ]
        width = max(len(name) for name, _ in rows)
        return [f"{self.name}: {self.about}", *(f"{name:<{width}}  {text}" for name, text in rows)]


def info(model: str) -> Info:
    """Describe `model`, a name or a folder. Raises InvalidInput for an unknown name, ModelFilesError for an
    invalid folder."""
    if model in PRESETS:
        p = PRESETS[model]
        c = p.config
        if c.hunyuan is not None:
            serve = Serve(8 * c.latent_height, 8 * c.latent_width, p.fps, p.steps, p.sampler, p.shift)
            return _full(model, p.about, c, serve)
        world = WorldModelConfig(c, AutoencoderConfig(), TextConfig())
        with torch.device("meta"):
            spec = WorldModel(world).spec(name=model, fps=p.fps, steps=p.steps, first_steps=p.steps)
        return _world(p.about, world, spec)
    folder = Path(model)
    if (folder / "config.json").is_file():
        data = _json(folder / "config.json")
        try:
            name, c = str(data["preset"]), build(ModelConfig, data["config"])
            return _full(name, str(folder), c, build(Serve, data["serve"], "serve"))
        except BAD_CONFIG as e:
            raise ModelFilesError(f"{folder}/config.json was not written by `psistream convert`: {e}") from e
    if (folder / "manifest.json").is_file():
        data = _json(folder / "manifest.json")
        try:
            world, spec = WorldModelConfig.from_json(data["config"]), ModelSpec.from_json(data["spec"])
            return _world(str(folder), world, spec)
        except BAD_CONFIG as e:
            raise ModelFilesError(
                f"{folder}/manifest.json is from another version: {e}; export the model again"
            ) from e
    raise InvalidInput(
        f"{model!r} is neither a preset ({', '.join(NAMES)}) nor the folder of a model",
        field="model",
    )


def _full(name: str, about: str, c: ModelConfig, serve: Serve) -> Info:
    with torch.device("meta"):
        dit = FramePackDiT(c)
    return _info(about, dit, framepack_spec(name, c, serve), {})


def _world(about: str, config: WorldModelConfig, spec: ModelSpec) -> Info:
    with torch.device("meta"):
        model = WorldModel(config)
    beside = {"autoencoder": count(model.autoencoder), "text": count(model.text)}
    return _info(about, model.dit, spec, beside)


def _info(about: str, dit: MemoryPackDiT, spec: ModelSpec, beside: dict[str, int]) -> Info:
    c = dit.config
    parts: dict[str, int] = {}
    for name, p in dit.named_parameters():
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + p.numel()
    backbone = [p.numel() for n, p in dit.named_parameters() if n.split(".")[0] not in EXTRA]
    gflop = step_flop(c) / 1e9
    return Info(
        name=spec.name,
        about=about,
        parameters=count(dit),
        tensors=len(list(dit.parameters())),
        backbone_parameters=sum(backbone),
        backbone_tensors=len(backbone),
        parts=parts,
        beside=beside,
        bytes_16_bit=2 * count(dit),
        picture=(spec.width, spec.height),
        segment_frames=spec.frames_per_segment,
        segment_s=spec.segment_s,
        tokens=tokens_of(c),
        state_bytes=SessionState.zeros(spec).nbytes,
        step_gflop=round(gflop, 3),
        segment_gflop=round(gflop * spec.steps, 3),
    )


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def tokens_of(c: ModelConfig) -> dict[str, int]:
    """Tokens of one segment: noisy, then the clean pieces, then the condition stream."""

    def patches(frames: int, kernel: str) -> int:
        kt, kh, kw = KERNELS[kernel]
        return ceil(frames / kt) * ceil(c.latent_height / kh) * ceil(c.latent_width / kw)

    found, _ = pieces(c.packing, c.segment)
    anchor = c.packing.anchor_kernel
    return {
        "noisy": patches(c.segment, "1x"),
        **{kernel: patches(found[kernel].frames, kernel) for kernel in ("1x", "2x", "4x")},
        "anchor": 0 if anchor == "none" else patches(1, anchor),
        "image": c.memory.tokens - c.memory.text_tokens,
        "text": c.memory.text_tokens,
        "ψ": c.memory.tokens,
    }


def step_flop(c: ModelConfig) -> int:
    """Operations of one denoising step of one session. Only matrix products count, and a multiply-add is two.

    With N tokens in total, width D, MLP ratio r and B blocks, nearly all of it is B (2 (4 + 2 r) D² N + 4 N²
    D): projections and MLP are 4 + 2 r matrices of D² in both kinds of block, and attention is Q Kᵀ and the
    product with V. The rest is modulations, embeddings of tokens and scalars, the prompt's refiner and the
    last layer."""
    d, r, tokens = c.dim, c.mlp_ratio, tokens_of(c)
    n, blocks = sum(tokens.values()), c.double_blocks + c.single_blocks

    def block(count: int) -> int:
        return 2 * (4 + 2 * r) * d * d * count + 4 * count * count * d

    def mlp(inputs: int) -> int:
        """Linear, SiLU, Linear to D, for one vector."""
        return 2 * (inputs * d + d * d)

    def kernel(name: str) -> int:
        kt, kh, kw = KERNELS[name]
        return 2 * c.channels * kt * kh * kw * d

    modulations = 2 * d * d * (12 * c.double_blocks + 3 * c.single_blocks + 2)
    inputs = 1 + c.hint_channels / c.channels
    embed = round(inputs * kernel("1x")) * tokens["noisy"] + sum(
        kernel(k) * tokens[k] for k in ("1x", "2x", "4x")
    )
    if c.packing.anchor_kernel != "none":
        embed += kernel(c.packing.anchor_kernel) * tokens["anchor"]
    scalars = 3 * mlp(WAVES) + mlp(c.pooled_dim)  # time, jump, noise level; pooled prompt
    carried = 4 * c.camera.candidates if c.camera and c.carry else 0
    last = 2 * (4 * c.channels + carried) * d * tokens["noisy"]
    refiner = 0
    if c.hunyuan is not None:
        h = c.hunyuan
        scalars += 2 * mlp(WAVES) + mlp(h.text_dim)  # guidance; the refiner's own time and prompt
        refiner = 2 * h.text_dim * d * tokens["text"] + h.refiner_layers * (block(tokens["text"]) + 4 * d * d)
    return blocks * block(n) + modulations + embed + scalars + last + refiner


def _json(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as e:
        raise ModelFilesError(f"cannot read {file}: {e}") from e
    return cast(Mapping[str, Any], data)


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="psistream model", description="Describe a model without its weights.")
    commands = p.add_subparsers(dest="command", required=True)
    show = commands.add_parser("info", help="parameters, tokens, state, cost of a step")
    show.add_argument("model", metavar="NAME|DIR", help=f"{', '.join(NAMES)}, or a model's folder")
    show.add_argument("--json", action="store_true", help="one JSON object on one line")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream model", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    found = helios_info(args.model) if is_helios(args.model) else info(args.model)
    if args.json:
        print(json.dumps(asdict(found), ensure_ascii=False))
    else:
        print("\n".join(found.lines()))
    return OK
