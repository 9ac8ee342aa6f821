"""Names of landmarks and colours. The data is in `names.toml`, written by
`engine.training.text.landmark_names`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from engine.spelling import one_slip, swapped

PATH: Final = Path(__file__).parent / "names.toml"
Name = tuple[str, ...]  # a name's words, in the singular


class Names(NamedTuple):
    """Names of kinds and colours, with the kind or colour that each one means."""

    kinds: dict[Name, str]
    colours: dict[Name, str]
    others: frozenset[str]  # words for heroes and the like, which are not part of a landmark
    words: frozenset[str]  # real words that look like typos of those above


@cache
def names() -> Names:
    """The names in `names.toml`."""
    data = tomllib.loads(PATH.read_text(encoding="utf-8"))
    tables = [
        {tuple(name.split()): value for value, listed in data[key].items() for name in listed.split(", ")}
        for key in ("kinds", "colours")
    ]
    return Names(tables[0], tables[1], frozenset(data["others"].split()), frozenset(data["words"].split()))


@cache
def targets() -> frozenset[str]:
    """Single words that a typo may have meant: kinds and colours by their own names."""
    found = names()
    return frozenset({*found.kinds.values(), *found.colours.values()})


@cache
def known() -> frozenset[str]:
    """All words in the names of kinds and colours."""
    found = names()
    return frozenset({w for table in (found.kinds, found.colours) for name in table for w in name})


def singular(word: str) -> str | None:
    """The singular of a word that may be a plural, otherwise None."""
    for end, instead in (("ies", "y"), ("shes", "sh"), ("ches", "ch"), ("sses", "ss"), ("s", "")):
        if word.endswith(end) and len(word) > len(end) + 2 and not word.endswith(("ss", "us")):
            return word.removesuffix(end) + instead
    return None


def corrected(word: str) -> str:
    """The name that an unknown word is probably a typo of, or the word itself."""
    found = names()
    if len(word) < 4 or word in known() or singular(word) in known() or word in found.words | found.others:
        return word
    plural = {f"{target}s": target for target in targets()}
    near = [
        w
        for w in (*targets(), *plural)
        if w[0] == word[0] and (one_slip(word, w) if len(w) > 4 else swapped(word, w))
    ]
    return near[0] if len(near) == 1 else word
