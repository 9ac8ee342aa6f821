"""What can be said of a snapshot at a glance, before anybody asks for a place: by the header of its file.

Only the worker, which has the model, checks all of it. This knows safetensors' header and no arrays.
"""

from __future__ import annotations

import json

from engine.errors import InvalidInput

KIND = "psistream-session-"  # what the format in the header begins with
MOST_HEADER_BYTES = 2**16


def has_header(data: bytes | bytearray) -> bool:
    """Whether enough is there of it to tell, of a file that still comes."""
    return len(data) >= 8 + min(_size(data), MOST_HEADER_BYTES)


def is_file(data: bytes) -> bool:
    """Whether it looks like safetensors, whatever of."""
    return 0 < _size(data) <= min(len(data) - 8, MOST_HEADER_BYTES) and data[8:9] == b"{"


def check_header(data: bytes, model: str) -> None:
    """Raises InvalidInput for what can be no snapshot of this model."""
    try:
        if not is_file(data):
            raise ValueError("it does not begin as one")
        about = json.loads(data[8 : 8 + _size(data)])["__metadata__"]
        kind, theirs = str(about["format"]), str(about["model"])
    except (ValueError, KeyError, TypeError, RecursionError):
        kind = theirs = ""
    if not kind.startswith(KIND):
        raise InvalidInput(
            "snapshot: this is no saved moment: send a file that Save or GET …/snapshot gave",
            field="snapshot",
        )
    if theirs != model:
        raise InvalidInput(
            f"snapshot: it is of the model {theirs:.60}, here runs {model}: a server of that model takes it",
            field="snapshot",
        )


def _size(data: bytes | bytearray) -> int:
    """Of the header in bytes, as it claims."""
    return int.from_bytes(data[:8], "little")
