"""Which files an ONNX graph points into, read from its bytes without the onnx library.

A graph may name other files that hold its weights. Serving checks these paths before any library follows
them. Only the fields of the format that lead to tensors are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

# message → field number → message of that field: the ways from a model to its tensors (onnx.proto)
FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
# all fields that onnx.proto has: a library that knows more might follow paths that are not seen here
KNOWN: dict[str, frozenset[int]] = {
    "model": frozenset({*range(1, 9), 14, 20, 25, 26}),
    "training": frozenset(range(1, 5)),
    "graph": frozenset({1, 2, 5, *range(10, 17)}),
    "function": frozenset({1, *range(4, 15)}),
    "node": frozenset(range(1, 11)),
    "attribute": frozenset({*range(1, 12), 13, 14, 15, *range(20, 24)}),
    "sparse": frozenset(range(1, 4)),
    "tensor": frozenset({*range(1, 15), 16}),
}
KEY, VALUE = 1, 2  # of an entry of external_data
MAX_DEPTH = 64


class Field(NamedTuple):
    number: int
    data: memoryview  # of a length-delimited field, else empty


def locations(data: bytes, *, functions: bool = True) -> set[str]:
    """The paths of a model's external data. Raises ValueError for anything but an ONNX file, for one with
    fields that are not known here and, unless `functions` may be there, for one that defines functions."""
    try:
        if not functions and any(f.number in (20, 25) for f in _fields(memoryview(data))):
            raise ValueError("it defines functions or training steps: export it with its functions inlined")
        return set(_walk(memoryview(data), "model", 0))
    except IndexError:
        raise ValueError("it ends in the middle of a number") from None


def _walk(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    inner = FIELDS[kind]
    for field in _fields(data):
        if field.number not in KNOWN[kind]:
            raise ValueError(f"its {kind} has a field {field.number}, which is not known here")
        message = inner.get(field.number)
        if message == "entry":
            entry = {f.number: bytes(f.data).decode() for f in _fields(field.data)}
            if entry.get(KEY) == "location":
                yield entry.get(VALUE, "")
        elif message is not None:
            yield from _walk(field.data, message, depth + 1)


def _fields(data: memoryview) -> Iterator[Field]:
    """The fields of a protobuf message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire, size = tag & 7, 0
        if wire == 0:
            _, at = _varint(data, at)
            yield Field(tag >> 3, data[:0])
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"field of unknown kind {wire}")
        if at + size > len(data):
            raise ValueError("it ends in the middle of a field")
        yield Field(tag >> 3, data[at : at + size] if wire == 2 else data[:0])
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("number too long")
