"""One message ↔ bytes: the length of a JSON header, the header, then raw bytes. Nothing is unpickled.

    {"type": "packet", "blobs": [812], "session": "main", …, "data": 0}

The header has the type's name, the sizes of the blobs and the fields. A field of bytes is the number of its
blob, one of pixels that number and the shape. What a field may hold follows from the dataclass's annotations.
Unknown fields are ignored, and so are unknown types, also within a list. A moment of the sender's clock
(`Moment`) travels as the seconds that are left until then.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from engine.types import MOMENT
from server.worker.wire.schema import name_of
from server.worker.wire.values import PLAIN, Context, Convert, Malformed, moment, pixels
from server.worker.wire.values import text as text_of

MAX_HEADER = 2 << 20
MAX_BLOBS = 512
MAX_ITEMS = 4096


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


# made once: json.loads and json.dumps would make one for every message
_JSON = json.JSONDecoder(parse_constant=_refuse)
_TEXT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Unknown(Exception):
    """A message type that this version does not have."""


class _Field(NamedTuple):
    name: str
    write: Convert | None  # None: as it is
    read: Convert
    required: bool


def encode(message: object, now_s: float) -> bytes:
    """Encode a message. `now_s` is the time on the clock of its moments."""
    context = Context(now_s, [])
    header = _written(message, context)
    header["blobs"] = [len(blob) for blob in context.blobs]
    try:
        text = _TEXT.encode(header)
    except ValueError:
        text = _TEXT.encode(_finite(header))
    head = text.encode("utf-8", "replace")
    return b"".join([len(head).to_bytes(4, "big"), head, *context.blobs])


def decode(data: bytes, kinds: Mapping[str, type], now_s: float) -> Any:
    """Decode a message; None for a type that is not in `kinds`. Raises Malformed."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 or size > min(MAX_HEADER, len(data) - 4):
        raise Malformed("a message is shorter than its header")
    try:
        header = _JSON.decode(data[4 : 4 + size].decode())
    except (ValueError, RecursionError):
        raise Malformed("a message's header is not JSON") from None
    if not isinstance(header, dict):
        raise Malformed("a message's header must be a JSON object")
    context = Context(now_s, _blobs(header.get("blobs", []), data, 4 + size))
    kind = kinds.get(header["type"]) if isinstance(header.get("type"), str) else None
    try:
        return None if kind is None else _read(kind, header, context)
    except Unknown:
        raise Malformed(f"{header['type']}: a part of it is of an unknown type") from None


def _blobs(sizes: Any, data: bytes, at: int) -> list[bytes]:
    whole = isinstance(sizes, list) and len(sizes) <= MAX_BLOBS
    if not whole or not all(type(size) is int and size >= 0 for size in sizes):
        raise Malformed("blobs must be a list of sizes")
    if at + sum(sizes) != len(data):
        raise Malformed("a message is not as long as it says")
    found = []
    for size in sizes:
        found.append(data[at : at + size])
        at += size
    return found


# ---- dataclasses ----


_plans: dict[type, tuple[_Field, ...]] = {}


def _plan(kind: type) -> tuple[_Field, ...]:
    """The fields of a message type, computed once."""
    if kind not in _plans:
        hints = typing.get_type_hints(kind, include_extras=True)
        known = [(f, hints[f.name]) for f in fields(kind)]
        _plans[kind] = tuple(_Field(f.name, _writer(h), _reader(h), _required(f)) for f, h in known)
    return _plans[kind]


def _required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _written(message: Any, context: Context) -> dict[str, Any]:
    kind = type(message)
    header: dict[str, Any] = {"type": name_of(kind)}
    for name, write, _, _ in _plan(kind):
        value = getattr(message, name)
        header[name] = value if write is None else write(value, context)
    return header


def _read(kind: type, header: dict[str, Any], context: Context) -> Any:
    values = {}
    for name, _, read, required in _plan(kind):
        if name in header:
            try:
                values[name] = read(header[name], context)
            except Malformed as error:
                raise Malformed(f"{name_of(kind)}.{name}: {error.message}"[:200], field=name) from None
        elif required:
            raise Malformed(f"{name_of(kind)}.{name} is missing", field=name)
    return kind(**values)


# ---- what an annotation allows ----


def _writer(hint: Any) -> Convert | None:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated and MOMENT in hint.__metadata__:
        return lambda value, context: value - context.now_s
    if hint is bytes:
        return _write_blob
    if origin is np.ndarray:
        return lambda value, context: [_write_blob(value.tobytes(), context), *value.shape]
    if is_dataclass(hint):
        return _written
    if origin is tuple and (each := _writer(args[0])) is not None:
        return lambda value, context: [each(item, context) for item in value]
    if origin is dict and (part := _writer(args[1])) is not None:
        return lambda value, context: {name: part(item, context) for name, item in value.items()}
    if origin in (typing.Union, types.UnionType):
        return _one_of(args)
    return None


def _one_of(args: tuple[Any, ...]) -> Convert | None:
    writers = [write for arg in args if (write := _writer(arg)) is not None]
    if not writers:
        return None
    first = _written if all(is_dataclass(arg) or arg is type(None) for arg in args) else writers[0]
    # None and plain values as they are
    return lambda value, context: value if value is None or isinstance(value, str) else first(value, context)


def _write_blob(value: bytes, context: Context) -> int:
    context.blobs.append(value)
    return len(context.blobs) - 1


def _reader(hint: Any) -> Convert:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return moment if MOMENT in hint.__metadata__ else _reader(args[0])
    if origin is np.ndarray:
        return pixels
    if origin is Literal:
        return _choice(args)
    if origin is tuple:
        return _many(_reader(args[0]))
    if origin is dict:
        return _mapping(_reader(args[1]))
    if origin in (typing.Union, types.UnionType):
        return _either(args)
    if is_dataclass(hint):
        return _part((typing.cast(type, hint),))
    return PLAIN[hint]


def _either(args: tuple[Any, ...]) -> Convert:
    """The type of a union's value, determined by the JSON."""
    parts = _part(tuple(typing.cast(type, arg) for arg in args if is_dataclass(arg)))
    others = [_reader(arg) for arg in args if arg is not type(None) and not is_dataclass(arg)]

    def read(value: Any, context: Context) -> Any:
        if value is None and type(None) in args:
            return None
        if isinstance(value, dict):
            return parts(value, context)
        for number, reader in enumerate(others, 1):
            try:
                return reader(value, context)
            except Malformed:
                if number == len(others):
                    raise
        raise Malformed("is of the wrong type")

    return read


def _part(parts: tuple[type, ...]) -> Convert:
    kinds = {name_of(kind): kind for kind in parts}

    def read(value: Any, context: Context) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise Malformed("must be an object with a type")
        if value["type"] not in kinds:
            raise Unknown
        return _read(kinds[value["type"]], value, context)

    return read


def _many(each: Convert) -> Convert:
    def read(value: Any, context: Context) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise Malformed(f"must be a list of at most {MAX_ITEMS}")
        found = []
        for item in value:
            try:
                found.append(each(item, context))
            except Unknown:
                continue
        return tuple(found)

    return read


def _mapping(each: Convert) -> Convert:
    def read(value: Any, context: Context) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            raise Malformed(f"must be an object of at most {MAX_ITEMS} fields")
        return {text_of(name, context): each(item, context) for name, item in value.items()}

    return read


def _choice(allowed: tuple[Any, ...]) -> Convert:
    def read(value: Any, context: Context) -> Any:
        if not isinstance(value, str) or value not in allowed:
            raise Malformed(f"must be one of {', '.join(allowed)}")
        return value

    return read


def _finite(value: Any) -> Any:
    """JSON has no infinity, so the largest number that may be sent stands for it."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return 0.0 if math.isnan(value) else math.copysign(2.0**62, value)
    return value
