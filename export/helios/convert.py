"""`psistream convert helios DIR OUT`: converts the public Helios-Distilled into a folder for --weights.

57 GB of fp32 become 29 GB of bf16, tensor by tensor; norms, modulations and the time embedding stay fp32, as
in the public code. LoRA files are merged during the conversion. With --memory, SemanticPack is grafted on
behind gates that start at 0. OUT may already hold companions.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from engine.model.config import MemoryConfig
from engine.model.helios.config import CELL, PIXELS, HeliosConfig, PyramidConfig
from engine.model.helios.serve import NAME, Conversion, Serve
from engine.model.helios.transformer import is_exact
from export.checkpoint.command import Report, check_free, check_sizes, convert_parser, run_convert
from export.checkpoint.output import TYPES, write_model
from export.checkpoint.public import Checkpoint
from export.checkpoint.shards import TensorEntry
from export.helios.checkpoint import check_scheduler, read_config, tensors_of, transformer_folder
from export.helios.graft import COPIES, HeliosGraft
from export.helios.lora import Lora, LoraFile, parse

IMAGE_TOKENS = (6, 10)  # of ψ: rectangles of the anchor
WINDOW = (3, 6, 8)  # the largest attention window of Memorize; it is reduced to divisors of the grid


@dataclass(frozen=True)
class HeliosOptions:
    height: int = 384  # the size that the distilled model was trained for
    width: int = 640
    segment: int = 9  # latent frames; the model was not trained for fewer
    steps: tuple[int, int, int] = (2, 2, 2)
    shift_by: Literal["previous", "own"] = "previous"
    memory: bool = False  # SemanticPack
    loras: tuple[LoraFile, ...] = ()
    dtype: str = "bf16"
    seed: int = 0
    shard_bytes: int = 5 * 10**9


def convert(source: Path, out: Path, options: HeliosOptions, report: Report = print) -> None:
    """Convert the checkpoint `source` into the folder `out`.

    Raises InvalidInput for invalid options, ModelFilesError for an unexpected checkpoint and if `out` already
    holds a model."""
    check_free(out)
    base = at_size(options)
    folder = transformer_folder(source)
    check_scheduler(source)
    config = read_config(folder, base)
    backbone, added = tensors_of(config)
    checkpoint = Checkpoint(folder, backbone)
    loras = [Lora(wanted, backbone) for wanted in options.loras]
    about = Conversion(
        config, Serve(pyramid=PyramidConfig(steps=options.steps, shift_by=options.shift_by))
    ).to_json()
    report(describe(config, backbone, added, loras))
    graft = HeliosGraft(config, options.seed)

    def tensor(name: str) -> Tensor:
        if name in added and name not in COPIES:
            return graft.tensor(name)
        stored = COPIES.get(name, name)
        found = checkpoint.tensor(stored)
        for lora in loras:
            found = lora.merged(stored, found)
        return found

    stored = {n: checkpoint.entries[n]._replace(at=0) for n in backbone}
    stored |= {n: TensorEntry(shape, "F32") for n, shape in added.items()}
    if options.dtype != "stored":
        stored = {n: e._replace(dtype=kind_of(n, options.dtype)) for n, e in stored.items()}
    settings = asdict(options) | {"loras": [[str(w.file), w.strength] for w in options.loras]}
    sources = [*checkpoint.files, *(w.file for w in options.loras)]
    write_model(out, about, stored, tensor, settings=settings, sources=sources)
    report(f"{out}: {NAME}, converted")


def at_size(o: HeliosOptions) -> HeliosConfig:
    check_sizes(o, PIXELS)
    c = HeliosConfig(latent_height=o.height // CELL, latent_width=o.width // CELL, segment=o.segment)
    if not o.memory:
        return c
    rows, columns = c.latent_height // 2, c.latent_width // 2
    frames, height, width = (
        max(d for d in range(1, most + 1) if n % d == 0)
        for n, most in zip((c.segment, rows, columns), WINDOW, strict=True)
    )
    image = (min(rows, IMAGE_TOKENS[0]), min(columns, IMAGE_TOKENS[1]))
    memory = MemoryConfig(text_tokens=c.text_tokens, image_tokens=image, window=(frames, height, width))
    return replace(c, memory=memory)


def kind_of(name: str, dtype: str) -> str:
    """The type in which a tensor is stored if `dtype` is requested."""
    return TYPES["fp32" if is_exact(name) else dtype]


def describe(
    c: HeliosConfig,
    backbone: Mapping[str, tuple[int, ...]],
    added: Mapping[str, tuple[int, ...]],
    loras: Sequence[Lora],
) -> str:
    merged = "".join(f"\n{len(lora.targets)} tensors take a LoRA at {lora.strength:g}" for lora in loras)
    return (
        f"{len(backbone)} tensors of the checkpoint fit; {len(added)} are added\n"
        f"{CELL * c.latent_width} x {CELL * c.latent_height} pixels, segments of {c.frames} frames" + merged
    )


def counts(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(p.isdigit() and int(p) for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not three counts, such as 2,2,1")
    return int(parts[0]), int(parts[1]), int(parts[2])


def parser() -> argparse.ArgumentParser:
    defaults = HeliosOptions()
    p = convert_parser("the public Helios-Distilled", (NAME,), defaults, PIXELS)
    p.add_argument(
        "--steps",
        type=counts,
        default=defaults.steps,
        metavar="A,B,C",
        help="network calls per stage (2,2,2)",
    )
    p.add_argument(
        "--shift-by",
        choices=("previous", "own"),
        default=defaults.shift_by,
        help="stage whose token count shifts the timesteps: as in the public pipelines, or as in training "
        "(%(default)s)",
    )
    p.add_argument("--memory", action="store_true", help="graft SemanticPack on; no effect until trained")
    p.add_argument(
        "--lora", action="append", default=[], metavar="FILE[@STRENGTH]", help="LoRA to merge; repeatable"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    def body(_: str, source: Path, out: Path, options: dict[str, Any], report: Report) -> None:
        loras = tuple(map(parse, options.pop("lora")))
        convert(source, out, HeliosOptions(loras=loras, **options), report)

    return run_convert(parser, argv, body)
