"""The parts of `psistream convert` that all families share: arguments, checks and exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from engine.commandline.outputs import naming
from engine.commandline.parser import GIVEN, Parser, check_belongs
from engine.commandline.runner import OK, run
from engine.errors import InvalidInput, ModelFilesError
from engine.model.converted import CONFIG
from export.checkpoint.output import TYPES

Report = Callable[[str], None]


class Sizes(Protocol):
    """The options that all families share. Each family has its own dataclass with its defaults."""

    @property
    def height(self) -> int: ...  # pixels
    @property
    def width(self) -> int: ...
    @property
    def segment(self) -> int: ...  # latent frames
    @property
    def dtype(self) -> str: ...
    @property
    def seed(self) -> int: ...  # of SemanticPack's weights


def convert_parser(about: str, models: Sequence[str], defaults: Sizes, pixels: int) -> Parser:
    """`about` names the checkpoint; sides are multiples of `pixels`. The caller adds its own options."""
    parser = Parser(prog="psistream convert", description=f"Convert {about} into a folder for --weights.")
    add = parser.add_argument
    add("model", choices=tuple(models))
    add("source", type=Path, metavar="DIR", help="the checkpoint as downloaded")
    add("out", type=Path, metavar="OUT", help="folder to write; may already hold companions")
    for side in ("height", "width"):
        default = getattr(defaults, side)
        add(f"--{side}", type=int, default=default, help=f"multiple of {pixels} (%(default)s)")
    add("--segment", type=int, default=defaults.segment, help="latent frames per segment (%(default)s)")
    add("--dtype", choices=("stored", *TYPES), default=defaults.dtype, help="of most weights (%(default)s)")
    add("--seed", type=int, default=defaults.seed, help="seed of SemanticPack's weights (%(default)s)")
    return parser


def check_sizes(options: Sizes, pixels: int) -> None:
    """Raises InvalidInput for sides or a segment length that the model cannot have."""
    for name in ("height", "width"):
        side = getattr(options, name)
        if side < pixels or side % pixels:
            raise InvalidInput(f"--{name} is {side}, but must be a multiple of {pixels}", field=name)
    if options.segment < 1:
        raise InvalidInput(f"--segment is {options.segment}, but must be at least 1", field="segment")


def check_free(out: Path) -> None:
    """Raises ModelFilesError if `out` already holds a model."""
    if (out / CONFIG).exists():
        raise ModelFilesError(f"{out / CONFIG} exists: {out} already holds a model", field="OUT")


def run_convert(
    parser: Callable[[], argparse.ArgumentParser],
    argv: Sequence[str] | None,
    convert: Callable[[str, Path, Path, dict[str, Any], Report], None],
) -> int:
    """Parse, then `convert(model, source, out, options, report)`; reports go to stderr."""

    def body() -> int:
        args = parser().parse_args(argv)
        if "memory" in args and not args.memory:
            check_belongs(args, "--memory", "seed")
        options = {name: value for name, value in vars(args).items() if name != GIVEN}
        model, source, out = (options.pop(name) for name in ("model", "source", "out"))
        with naming(out):
            convert(model, source, out, options, lambda text: print(text, file=sys.stderr))
        return OK

    return run("psistream convert", body)
