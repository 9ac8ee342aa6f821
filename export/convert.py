"""`psistream convert MODEL DIR OUT`: runs the converter of MODEL's family."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from engine.commandline.parser import Parser
from engine.commandline.runner import run

FAMILIES = {
    "framepack-f1": "export.framepack.convert",
    "framepack-f0": "export.framepack.convert",
    "helios": "export.helios.convert",
}


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream convert", lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(arguments: list[str]) -> int:
    parser = Parser(
        prog="psistream convert",
        usage="psistream convert MODEL DIR OUT [options]",
        description="Convert a public checkpoint, as downloaded, into a folder for --weights.",
        epilog="psistream convert MODEL --help shows the options of each model.",
    )
    parser.add_argument("model", metavar="MODEL", choices=tuple(FAMILIES), help=", ".join(FAMILIES))
    model = parser.parse_args(arguments[:1]).model
    return int(importlib.import_module(FAMILIES[model]).main(arguments))
