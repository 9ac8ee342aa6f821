"""More names for values, from a dictionary: their kinds and instances. They are used in training only.

The data is in `extra.toml`, which `engine.training.text.vocabulary` writes. It contains no word that is kept
for testing, and captions that measure use none of it.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

from engine.world.attributes import FIELDS, VALUES

PATH: Final = Path(__file__).parent / "extra.toml"


@cache
def extra() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Attribute → value → names. "nothing" holds heroes that the world does not have. Places are written as
    in `places`."""
    data = tomllib.loads(PATH.read_text())
    table = {f: tuple(_names(data[f].get(value, "")) for value in VALUES[f]) for f in FIELDS}
    return {**table, "nothing": (_names(data["nothing"]["hero"]),)}


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()
