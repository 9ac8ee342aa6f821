"""What commands write: whether it can be written, before any work is spent on it, and errors that name it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import InvalidInput
from engine.videofile.writable import check_writable


def tell(text: str) -> None:
    """Print the text if possible, for what runs on without it: standard output may be closed or on a full
    disk."""
    with suppress(OSError, ValueError):
        print(text, flush=True)


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
