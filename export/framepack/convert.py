"""`psistream convert framepack-f1 DIR OUT`: converts a public FramePack checkpoint into a folder for
--weights.

SemanticPack and our embeddings are grafted on (export.framepack.graft), and the new model initially computes
what the checkpoint did. It works tensor by tensor and never loads the whole checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import log
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.errors import InvalidInput
from engine.model.config import ModelConfig
from engine.model.converted import FORMAT
from engine.model.framepack.roles import Serve
from engine.model.presets import PRESETS, Preset
from export.checkpoint.command import Report, check_free, check_sizes, convert_parser, run_convert
from export.checkpoint.output import TYPES, write_model
from export.checkpoint.public import Checkpoint
from export.checkpoint.shards import TensorEntry
from export.framepack.checkpoint import read_config, tensors_of
from export.framepack.graft import COPIES, EMBED, FramePackGraft

PUBLIC = ("framepack-f1", "framepack-f0")
PIXELS = 16  # per side of a token
WINDOW = (3, 65)  # Memorize's window: at most 3 frames, about 65 tokens per frame


@dataclass(frozen=True)
class FramePackOptions:
    height: int = 480
    width: int = 832
    segment: int = 9  # latent frames, as the checkpoints were trained
    image_tokens: tuple[int, int] = (27, 27)  # SigLIP's patches, rows and columns
    rope_consistency: bool = False  # False: every segment has the positions of the checkpoints' training
    dtype: str = "stored"
    seed: int = 0
    shard_bytes: int = 5 * 10**9


def convert(preset: str, source: Path, out: Path, options: FramePackOptions, report: Report = print) -> None:
    """Convert the checkpoint `source` of `preset` into the folder `out`.

    Raises InvalidInput for invalid options, ModelFilesError for an unexpected checkpoint and if `out` already
    holds a model."""
    if preset not in PUBLIC:
        raise InvalidInput(
            f"there is no public checkpoint of {preset!r}, only of {' and '.join(PUBLIC)}", field="model"
        )
    check_free(out)
    base = PRESETS[preset]
    config = read_config(source, at_size(base.config, options))
    backbone, added = tensors_of(config)
    checkpoint = Checkpoint(source, backbone)
    kind = checkpoint.entries[f"{EMBED}.weight"].dtype
    stored = {n: checkpoint.entries[n]._replace(at=0) for n in backbone}
    stored |= {n: TensorEntry(shape, kind) for n, shape in added.items()}
    if options.dtype != "stored":
        stored = {n: e._replace(dtype=TYPES[options.dtype]) for n, e in stored.items()}
    about = {
        "format": FORMAT,
        "preset": preset,
        "config": asdict(config),
        "serve": asdict(serve(base, options)),
    }
    report(describe(config, backbone, added))
    graft = FramePackGraft(config, options.seed)

    def tensor(name: str) -> Tensor:
        if name in backbone or name in COPIES:
            return checkpoint.tensor(COPIES.get(name, name))
        return graft.tensor(name, added[name])

    write_model(out, about, stored, tensor, settings=asdict(options), sources=checkpoint.files)
    report(f"{out}: {preset}, converted")


def at_size(base: ModelConfig, o: FramePackOptions) -> ModelConfig:
    """`base` for pictures of the given size. Memorize's attention window must divide their tokens."""
    check_sizes(o, PIXELS)
    window = choose_window(o.segment, o.height // PIXELS, o.width // PIXELS)
    return replace(
        base,
        latent_height=o.height // 8,
        latent_width=o.width // 8,
        segment=o.segment,
        packing=replace(base.packing, rope_consistency=o.rope_consistency),
        memory=replace(base.memory, image_tokens=o.image_tokens, window=window),
    )


def choose_window(frames: int, rows: int, columns: int) -> tuple[int, int, int]:
    """An attention window that divides the grid: up to 3 frames, with a nearly square area of about 65 tokens
    per frame."""

    def divisors(n: int) -> list[int]:
        return [d for d in range(1, n + 1) if n % d == 0]

    def cost(h: int, w: int) -> tuple[float, float]:
        return round(abs(log(h * w / WINDOW[1])), 3), abs(log(h / w))

    height, width = min(((h, w) for h in divisors(rows) for w in divisors(columns)), key=lambda s: cost(*s))
    return max(d for d in divisors(frames) if d <= WINDOW[0]), height, width


def serve(base: Preset, o: FramePackOptions) -> Serve:
    return Serve(o.height, o.width, base.fps, base.steps, base.sampler, base.shift)


def describe(c: ModelConfig, backbone: Mapping[str, tuple[int, ...]], added: Mapping[str, Any]) -> str:
    grid = (c.segment, c.latent_height // 2, c.latent_width // 2)
    return (
        f"{len(backbone)} tensors of the checkpoint fit; {len(added)} are added\n"
        f"{8 * c.latent_width} x {8 * c.latent_height} pixels, segments of {c.segment} latent frames, "
        f"tokens {grid}; Memorize attends in windows of {c.memory.window}; key bias {c.memory.key_bias}"
    )


def patches(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdigit() and columns.isdigit() and int(rows) and int(columns)):
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLUMNS")
    return int(rows), int(columns)


def parser() -> argparse.ArgumentParser:
    defaults = FramePackOptions()
    p = convert_parser("a public FramePack checkpoint", PUBLIC, defaults, PIXELS)
    p.add_argument(
        "--image-tokens",
        type=patches,
        default=defaults.image_tokens,
        help="patches of the image encoder (27x27)",
    )
    p.add_argument(
        "--rope-consistency",
        action="store_true",
        help="the start image keeps index 0 of the whole video, as in the paper; for further training",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    def body(model: str, source: Path, out: Path, options: dict[str, Any], report: Report) -> None:
        convert(model, source, out, FramePackOptions(**options), report)

    return run_convert(parser, argv, body)
