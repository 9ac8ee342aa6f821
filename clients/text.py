"""Makes text and numbers from the wire safe for a terminal: no escape sequence reaches it."""

from __future__ import annotations

import math


def printable(value: object) -> str:
    return "".join(character if character.isprintable() else " " for character in str(value))


def number(value: object, otherwise: float = math.nan) -> float:
    """The value if it is a number below 1e15, else `otherwise`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value)
    return otherwise
