"""Readers for single values on the wire: each accepts one kind of JSON value and raises Malformed
otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from engine.errors import InvalidInput

MAX_INT = 2**63


class Malformed(InvalidInput):
    """These bytes are not a message."""

    code = "malformed"


class Context(NamedTuple):
    now_s: float
    blobs: list[bytes]


Convert = Callable[[Any, Context], Any]


def text(value: Any, context: Context) -> str:
    if not isinstance(value, str):
        raise Malformed("must be a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Malformed("must be Unicode text") from None
    return value


def whole(value: Any, context: Context) -> int:
    if type(value) is not int or not -MAX_INT < value < MAX_INT:
        raise Malformed("must be a whole number below 2^63")
    return value


def number(value: Any, context: Context) -> float:
    if (type(value) is not int and type(value) is not float) or not abs(value) < MAX_INT:
        raise Malformed("must be a number below 2^63")
    return float(value)


def truth(value: Any, context: Context) -> bool:
    if not isinstance(value, bool):
        raise Malformed("must be true or false")
    return value


def blob(value: Any, context: Context) -> bytes:
    if type(value) is not int or not 0 <= value < len(context.blobs):
        raise Malformed("must be the number of a blob")
    return context.blobs[value]


def pixels(value: Any, context: Context) -> Any:
    """Pixels of a picture (3, H, W) or of several (T, 3, H, W), uint8."""
    sizes = isinstance(value, list) and len(value) in (4, 5)
    if not sizes or not all(type(n) is int and n >= 0 for n in value):
        raise Malformed("must be the number of a blob, and three or four sizes")
    data, shape = blob(value[0], context), tuple(value[1:])
    if math.prod(shape) != len(data):
        raise Malformed("is not as large as its shape")
    return np.frombuffer(data, np.uint8).reshape(shape).copy()  # one that may be written to


def moment(value: Any, context: Context) -> float:
    return context.now_s + number(value, context)


PLAIN: dict[Any, Convert] = {str: text, int: whole, float: number, bool: truth, bytes: blob}
