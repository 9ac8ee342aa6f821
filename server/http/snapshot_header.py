"""Checks a snapshot by the header of its file, before its body is read or a place is taken.

Only the worker, which has the model, checks everything. This module parses the safetensors header but no
arrays.
"""

from __future__ import annotations

import json

from engine.errors import InvalidInput

KIND = "psistream-session-"  # prefix of the format's name in the header
MAX_HEADER_BYTES = 2**16


def has_header(data: bytes | bytearray) -> bool:
    """Whether the header of a file that is still arriving is complete."""
    return len(data) >= 8 + min(_size(data), MAX_HEADER_BYTES)


def is_file(data: bytes) -> bool:
    """Whether it looks like a safetensors file of any kind."""
    return 0 < _size(data) <= min(len(data) - 8, MAX_HEADER_BYTES) and data[8:9] == b"{"


def check_header(data: bytes, model: str) -> None:
    """Raises InvalidInput unless this can be a snapshot of `model`."""
    try:
        if not is_file(data):
            raise ValueError("it does not start as one")
        about = json.loads(data[8 : 8 + _size(data)])["__metadata__"]
        kind, theirs = str(about["format"]), str(about["model"])
    except (ValueError, KeyError, TypeError, RecursionError):
        kind = theirs = ""
    if not kind.startswith(KIND):
        raise InvalidInput(
            "snapshot: this is not a snapshot: send a file that Save or GET …/snapshot made",
            field="snapshot",
        )
    if theirs != model:
        raise InvalidInput(
            f"snapshot: it is of the model {theirs:.60}, this server runs {model}: use one of that model",
            field="snapshot",
        )


def _size(data: bytes | bytearray) -> int:
    """The size of the header in bytes, as declared by the file."""
    return int.from_bytes(data[:8], "little")
