"""Runs a command: its exit status, and how its errors are reported.

A command's `main` is one call of `run`. Every error becomes one line on stderr that starts with the command's
name; only bugs print a traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

from engine.commandline.outputs import naming
from engine.errors import ReportedError

OK, FAILED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141
OWN = ("engine", "export", "server", "clients", "benchmarks")  # packages of this distribution
EXTRAS = {"export": "export", "train": "train"}  # command → extra, where it isn't "torch"
DEVICE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)  # not the fault of a path


def run(command: str, body: Callable[[], int]) -> int:
    """The exit status of `body`, which also parses the arguments. `command` starts every message."""
    try:
        with _named_stdout():
            status = _finished(body)
    except ReportedError as error:
        status = _report(command, error.message, BAD_INPUT if error.called_wrongly else FAILED)
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
