"""`psistream convert MODEL DIR OUT`: hands over to the family that MODEL belongs to."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

FAMILIES = {
    "framepack-f1": "export.framepack.convert",
    "framepack-f0": "export.framepack.convert",
    "helios": "export.helios.convert",
}


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="psistream convert",
        usage="psistream convert MODEL DIR OUT [options]",
        description="a public checkpoint, as it was fetched → a folder for --weights",
        epilog="psistream convert MODEL --help tells each model's own options",
    )
    parser.add_argument("model", metavar="MODEL", choices=tuple(FAMILIES), help=", ".join(FAMILIES))
    model = parser.parse_args(words[:1]).model
    return int(importlib.import_module(FAMILIES[model]).main(words))
