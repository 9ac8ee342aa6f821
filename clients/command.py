"""What the clients' commands share: the argument parser, exit statuses, and errors as one line.

It corresponds to engine/commands/runner.py, which clients must not import. Other errors, such as a full disk
or a broken pipe, are reported by `psistream` itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from clients.errors import BadInput, ClientError
from engine.videofile.writable import check_writable

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r:.40}") from None


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r:.40}") from None


class ClientParser(argparse.ArgumentParser):
    """Raises BadInput instead of ending the process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", int, whole_number)  # argparse says "invalid int value"
        self.register("type", float, number)

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see {self.prog} --help)")

    def print_help(self, file: Any = None) -> None:
        (file or sys.stdout).write(self.format_help())  # argparse's own ignores errors, even a full disk


class OutputConsole(Console):
    """If the reader is gone, as in `psistream view | head`, rich would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def run(command: str, body: Callable[[], int]) -> int:
    """Run `body`, which also parses the arguments, and return its exit status. Messages start with
    `command`."""
    try:
        return body()
    except SystemExit as done:  # --help
        return int(done.code or OK)
    except ClientError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, BadInput) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def check_output(path: Path, option: str) -> Path:
    """Check that a file can be written later. An existing file keeps its content. Raises BadInput."""
    try:
        check_writable(path)
    except OSError as error:
        raise BadInput(f"{option}: cannot write {path}: {error.strerror}") from None
    return path
