"""Corrects typing errors: an unknown word becomes the only word of captions that is one error away.

The words of captions come from `names` and `verbs`; the caller says which other words are known. Known words
and words of three letters or fewer are not changed.
"""

from __future__ import annotations

import re
from collections.abc import Container
from functools import cache

from engine.spelling import one_slip
from engine.world.words import names as words
from engine.world.words import verbs

WORD = re.compile(r"[^\W\d_]{4,}")


@cache
def vocabulary() -> frozenset[str]:
    """All words of four letters or more in the phrases that training uses."""
    places = [kind.train for place in words.PLACES for kind in place]
    rest = [kind.train for group in (words.TIMES, words.WEATHERS) for value in group for kind in value]
    heroes = [kind.train for kind in (*words.HEROES, *words.COLOURS)]
    actions = [kind.train for known in (*verbs.VERBS, verbs.ANY_VERBS) for kind in known]
    phrases = [p for kind in (*places, *rest, *heroes, *actions) for p in kind]
    return frozenset(WORD.findall(" ".join(phrases).lower()))


@cache
def by_end() -> dict[tuple[str, int], list[str]]:
    """Words by their first or last letter and their length, so that few need to be compared."""
    found: dict[tuple[str, int], list[str]] = {}
    for word in sorted(vocabulary()):
        for end in {f"^{word[0]}", f"{word[-1]}$"}:
            found.setdefault((end, len(word)), []).append(word)
    return found


def candidates(word: str) -> list[str]:
    """Words of about this length with the same first or last letter. One error cannot change both letters."""
    ends, lengths = (f"^{word[0]}", f"{word[-1]}$"), range(len(word) - 1, len(word) + 2)
    return sorted({w for end in ends for n in lengths for w in by_end().get((end, n), ())})


def mend(text: str, known: Container[str]) -> str:
    """The text with each unknown word replaced by the only word of captions that is one error away, or by the
    only such word with the same first letter."""

    def better(match: re.Match[str]) -> str:
        word = match.group().lower()
        if word in known or word in vocabulary():
            return match.group()
        near = [w for w in candidates(word) if one_slip(word, w)]
        near = near if len(near) == 1 else [w for w in near if w[0] == word[0]]
        return near[0] if len(near) == 1 else match.group()

    return WORD.sub(better, text)
