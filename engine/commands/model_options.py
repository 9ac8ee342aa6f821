"""The options that select a model, shared by all commands that play one."""

from __future__ import annotations

import argparse
from collections.abc import Container
from pathlib import Path

from engine.backends.registry import DEFAULT_BACKEND, MODULES


def add_model(parser: argparse.ArgumentParser, *, leave_out: Container[str] = ()) -> None:
    """Add --backend, --model and --weights, the arguments of `load_backend`."""
    names = [name for name in MODULES if name not in leave_out]
    parser.add_argument("--backend", choices=names, default=DEFAULT_BACKEND, help="what runs the model")
    parser.add_argument(
        "--model",
        metavar="NAME|DIR",
        help="helios, framepack-f1, or the folder of an exported model (default: the built-in model)",
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder of a full-size model's weights")
