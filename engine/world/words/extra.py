"""More names of what captions speak of, for training: kinds and instances of every value, from a dictionary.

Data in `extra.toml`, written by `engine.training.text.vocabulary`, without any word that is kept for testing.
Nothing of it is heard in the captions that measure.
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
    """Attribute → value → names. "nothing" holds heroes that there are none of. Places are written as in
    `words`."""
    data = tomllib.loads(PATH.read_text())
    table = {f: tuple(_names(data[f].get(value, "")) for value in VALUES[f]) for f in FIELDS}
    return {**table, "nothing": (_names(data["nothing"]["hero"]),)}


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()
