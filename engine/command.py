"""What `psistream generate`, `replay` and `evaluate` share: the model, exit statuses, errors as one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from engine.backends.registry import DEFAULT_BACKEND, MODULES
from engine.errors import InvalidInput, ModelFilesError, PsistreamError

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """Raises InvalidInput instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message} (see {self.prog} --help)")


def add_model(parser: argparse.ArgumentParser) -> None:
    """--backend, --model and --weights, as load_backend takes them."""
    parser.add_argument("--backend", choices=tuple(MODULES), default=DEFAULT_BACKEND)
    parser.add_argument(
        "--model", metavar="NAME|DIR", help="framepack-f1, or an exported model (default: the built-in one)"
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="of a full-size model")


def run(command: str, body: Callable[[], int]) -> int:
    """The exit status of `body`, which parses its arguments as well."""
    try:
        return body()
    except SystemExit as done:  # --help
        return int(done.code or OK)
    except PsistreamError as error:
        print(f"{command}: {error.message}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, InvalidInput | ModelFilesError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
