"""Captions for Wander: the same facts in many words and orders.

A caption states exactly the values it is given. Some words (see `names`) and some layouts (see `templates`)
are reserved: captions for training contain none of them, captions for testing at least one. Pictures are
unknown here.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final, Literal

from engine.world.attributes import FIELDS, VALUES
from engine.world.words.phrases import Facts
from engine.world.words.templates import HELD_TEMPLATES, TEMPLATES

HeldOut = bool | Literal["words", "layouts", "both"]
"""What is reserved in a caption. True stands for some words, a layout, or both, chosen at random."""

SAID_SHARE: Final = 0.55
"""Probability that `random_caption` mentions a field that is not in `must`."""


def caption(
    values: Mapping[str, int],
    motion: int | None,
    rng: Random,
    *,
    held_out: HeldOut = False,
    wide: float = 0.0,
) -> str:
    """A caption of exactly these values (a subset of FIELDS) and this motion (an index into ACTIONS). A share
    `wide` of the names comes from a dictionary."""
    unknown = set(values) - set(FIELDS)
    if unknown:
        raise ValueError(f"not fields of Wander: {', '.join(sorted(unknown))}")
    for name, value in values.items():
        if not 0 <= value < len(VALUES[name]):
            raise ValueError(f"{name} has no value number {value}")
    about = [*values, *(["motion"] if motion is not None else [])]
    if not about:
        raise ValueError("nothing to say")
    reserved: frozenset[str] = frozenset()
    templates = TEMPLATES
    if held_out in (True, "words", "both"):
        reserved = frozenset(name for name in about if rng.random() < 0.6)
    if held_out in ("layouts", "both") or (held_out is True and (not reserved or rng.random() < 0.2)):
        templates = HELD_TEMPLATES
    if held_out in ("words", "both") and not reserved:
        reserved = frozenset({rng.choice(about)})
    facts = Facts(values, motion, rng, reserved, wide)
    text = None
    while not text:
        text = rng.choice(templates)(facts)
    if rng.random() < 0.15:
        text = text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
    return text


def random_caption(
    attributes: Mapping[str, int],
    motion: int | None,
    rng: Random,
    *,
    must: frozenset[str] = frozenset(),
    held_out: HeldOut = False,
    wide: float = 0.0,
) -> tuple[str, dict[str, int]]:
    """A caption of some attributes, always those in `must` -> text and the fields it states, or "motion"."""
    facts = {name: attributes[name] for name in FIELDS if name in attributes}
    if motion is not None:
        facts["motion"] = motion
    if not facts:
        raise ValueError("nothing to say")
    said = {name: value for name, value in facts.items() if name in must or rng.random() < SAID_SHARE}
    if not said:
        name = rng.choice(list(facts))
        said[name] = facts[name]
    values = {name: value for name, value in said.items() if name != "motion"}
    return caption(values, said.get("motion"), rng, held_out=held_out, wide=wide), said
