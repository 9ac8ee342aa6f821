"""The prompts of the figures: random attributes in the world's own words, determined by seeds alone."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from engine.world.attributes import FIELDS, VALUES
from engine.world.words.captions import caption

Attributes = dict[str, int]


def attributes(figure: str, seed: int) -> Attributes:
    """Random attributes, dealt like cards: a field with k values takes each once in k consecutive seeds. So a
    few seeds cover all weathers."""
    dealt = {}
    for field in FIELDS:
        cards = list(range(len(VALUES[field])))
        Random(f"{figure} {field} {seed // len(cards)}").shuffle(cards)
        dealt[field] = cards[seed % len(cards)]
    return dealt


def changed(before: Attributes, rng: Random) -> Attributes:
    """Change every attribute, so that nothing is right by persistence."""
    return {f: (v + rng.randrange(1, len(VALUES[f]))) % len(VALUES[f]) for f, v in before.items()}


def say(what: Attributes, rng: Random, *, held_out: bool = False) -> str:
    """A caption that names all attributes and no motion. With `held_out` it uses words or an order that
    training never saw."""
    return caption(what, None, rng, held_out=held_out)


class Setting(NamedTuple):
    attributes: Attributes
    prompt: str
    rng: Random  # for the other choices of this seed


def setting(figure: str, seed: int) -> Setting:
    """The attributes and prompt of one seed of a figure."""
    rng, what = Random(f"{figure} {seed}"), attributes(figure, seed)
    return Setting(what, say(what, rng), rng)


def values(what: Attributes) -> Tensor:
    """The attributes' indices, (5,), in the order of FIELDS."""
    return torch.tensor([what[f] for f in FIELDS])


def names(which: list[int] | Tensor) -> str:
    """Values for people to read: "night city, rain, blue robot"."""
    place, time, weather, hero, colour = (VALUES[f][int(v)] for f, v in zip(FIELDS, which, strict=True))
    return f"{time} {place}, {weather}, {colour} {hero}"
