"""What figures ask for: attributes at random, in the world's own words. Seeds decide, nothing else."""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor

from engine.world.attributes import FIELDS, VALUES
from engine.world.words.captions import caption

Attributes = dict[str, int]


def attributes(figure: str, seed: int) -> Attributes:
    """At random, but dealt like cards: of as many seeds in a row as a field has values, each has another one.
    So few seeds, too, see all weathers."""
    dealt = {}
    for field in FIELDS:
        cards = list(range(len(VALUES[field])))
        Random(f"{figure} {field} {seed // len(cards)}").shuffle(cards)
        dealt[field] = cards[seed % len(cards)]
    return dealt


def changed(before: Attributes, rng: Random) -> Attributes:
    """Every attribute another one than before, so that nothing is right by standing still."""
    return {f: (v + rng.randrange(1, len(VALUES[f]))) % len(VALUES[f]) for f, v in before.items()}


def say(what: Attributes, rng: Random, *, held_out: bool = False) -> str:
    """A caption that names all attributes and no motion; `held_out`: in words or an order that training never
    saw."""
    return caption(what, None, rng, held_out=held_out)


def values(what: Attributes) -> Tensor:
    """(5,) in the order of FIELDS."""
    return torch.tensor([what[f] for f in FIELDS])


def names(which: list[int] | Tensor) -> str:
    """Read values, for people: "night city, rain, blue robot"."""
    place, time, weather, hero, colour = (VALUES[f][int(v)] for f, v in zip(FIELDS, which, strict=True))
    return f"{time} {place}, {weather}, {colour} {hero}"
