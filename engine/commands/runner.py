"""What all commands share: the argument parser, exit statuses, and how errors are reported.

A command's `main` is one call of `run`. Every error becomes one line on stderr that starts with the command's
name; only bugs print a traceback. The clients have their own version (clients/command.py), since they must
not import the engine.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from engine.errors import InvalidInput, ModelFilesError, PsistreamError
from engine.videofile.writable import check_writable

OK, FAILED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141
MOST_THREADS = 1024
OWN = ("engine", "export", "server", "clients", "benchmarks")  # packages of this distribution
EXTRAS = {"export": "export", "train": "train"}  # command → extra, where it isn't "torch"
DEVICE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)  # not the fault of a path


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


def threads(text: str) -> int:
    count = whole_number(text)
    if not 0 <= count <= MOST_THREADS:
        raise argparse.ArgumentTypeError(f"must be 0 (all) to {MOST_THREADS}, not {text:.40}")
    return count


class Parser(argparse.ArgumentParser):
    """Raises InvalidInput instead of ending the process. Its subparsers do the same."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", int, whole_number)  # argparse says "invalid int value"
        self.register("type", float, number)

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message} (see {self.prog} --help)")

    def print_help(self, file: Any = None) -> None:
        (file or sys.stdout).write(self.format_help())  # argparse's own ignores errors, even a full disk


def run(command: str, body: Callable[[], int]) -> int:
    """The exit status of `body`, which also parses the arguments. `command` starts every message."""
    try:
        with _named_stdout():
            status = _finished(body)
    except PsistreamError as error:
        status = _report(
            command, error.message, BAD_INPUT if isinstance(error, InvalidInput | ModelFilesError) else FAILED
        )
    except ModuleNotFoundError as error:
        if error.name is None:
            raise
        status = _report(command, missing(command, error.name), FAILED)
    except BrokenPipeError:
        status = BROKEN_PIPE  # `psistream … | head`: the reader needs no more output
    except OSError as error:
        usable = error.filename is not None and error.errno not in DEVICE_FAULTS
        status = _report(command, reason(error), BAD_INPUT if usable else FAILED)
    except KeyboardInterrupt:
        status = INTERRUPTED
    _discard()
    return status


def _finished(body: Callable[[], int]) -> int:
    try:
        return body()
    except SystemExit as done:  # --help
        return int(done.code or OK)


def _report(command: str, message: str, status: int) -> int:
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in message)  # no escape sequences
    print(f"{command}: {text}", file=sys.stderr)
    return status


def _discard() -> None:
    """Discard what stdout cannot take. Python would try again after `main` and print a traceback."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _named_stdout() -> Iterator[None]:
    if sys.stdout is None:  # closed with >&-; print does nothing then
        yield
        return
    with redirect_stdout(cast(TextIO, _NamedOutput(sys.stdout))):
        yield
        sys.stdout.flush()


class _NamedOutput:
    """Standard output whose errors name it."""

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner

    def write(self, text: str) -> int:
        with naming("standard output"):
            return self._inner.write(text)

    def flush(self) -> None:
        with naming("standard output"):
            self._inner.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def naming(path: Path | str | None) -> Iterator[None]:
    """Add the path of what is being written to errors inside. Python reports the path of a file that cannot
    be opened, but not that of an open file on a full disk."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None and path is not None:
            error.filename = str(path)
        raise


def reason(error: OSError) -> str:
    """The path, if the error has one, and the reason."""
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename is not None else text


def missing(command: str, module: str) -> str:
    """The message that says what to install for a module that cannot be imported."""
    name = command.removeprefix("psistream ")
    if module.partition(".")[0] in OWN:
        return f"{name} is not part of this installation ({module} is missing)"
    return f"{module} is not installed; pip install 'psistream[{EXTRAS.get(name, 'torch')}]' provides it"


def check_output(path: Path | None, option: str) -> None:
    """Check that an output file can be written, before hours of work depend on it. An existing file keeps its
    content. Raises InvalidInput."""
    if path is None:
        return
    try:
        check_writable(path)
    except OSError as error:
        message = f"{option}: cannot write {path}: {error.strerror or error}"
        raise InvalidInput(message, field=option.strip("-")) from None


def check_folder(path: Path | None, option: str) -> None:
    """Create an output folder before any expensive work starts. Raises InvalidInput."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{option}: cannot create {path}: {error.strerror or error}"
        raise InvalidInput(message, field=option.strip("-")) from None
    if not os.access(path, os.W_OK):
        raise InvalidInput(f"{option}: cannot write into {path}", field=option.strip("-"))
