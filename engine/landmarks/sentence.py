"""Reads the landmarks that a prompt names, and returns the rest of the prompt.

A small grammar over tokens: the name of a kind is the head of a phrase. The phrase extends back to an
article, a number or a word that cannot belong to it, and a colour in it is the landmark's. A colour may also
follow ("that is painted blue"). The words around the phrase give the position. All of this is removed from
the prompt, so that "a fox near a blue house" does not make the fox blue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from engine.landmarks.function_words import (
    BETWEEN,
    COUNTS,
    FOREIGN,
    LINK,
    MANY,
    MATERIALS,
    MORE,
    MOST,
    NONE,
    ONE,
    OTHER_HEADS,
    VERBS,
)
from engine.landmarks.names import Name, corrected, names, singular
from engine.landmarks.where import Where, located

Reading = tuple[tuple["Mention", ...], str]
HYPHEN: Final = re.compile(r"(?<=\w)-(?=\w)")
TOKEN: Final = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")


class Mention(NamedTuple):
    """Landmarks that a prompt asks for. None means not said."""

    kind: str
    colour: str | None
    where: Where | None
    number: int = 1
    more: bool = False  # in addition to existing ones


class _Phrase(NamedTuple):
    start: int
    end: int
    request: Mention | None  # None: negated, as in "no tree"


def read(text: str, kinds: Sequence[str], colours: Sequence[str]) -> Reading:
    """The landmarks of these kinds and colours that the text names, in order, and the rest of the text."""
    tokens = [corrected(t) for t in TOKEN.findall(HYPHEN.sub(" ", text.lower()))]
    phrases = [p for p in _phrases(tokens) if p.request is None or p.request.kind in kinds]
    if not phrases:
        return (), text
    words: list[str] = []
    at = 0
    for i, phrase in enumerate(phrases):
        words += [*tokens[at : phrase.start], f"§{i}"]
        at = phrase.end
    places, rest = located(" ".join([*words, *tokens[at:]]), len(phrases))
    found = []
    for phrase, where in zip(phrases, places, strict=True):
        if phrase.request is not None:
            request = phrase.request
            colour = request.colour if request.colour in colours else None
            found.append(request._replace(colour=colour, where=request.where or where))
    return tuple(found), rest


def _phrases(tokens: list[str]) -> list[_Phrase]:
    found: list[_Phrase] = []
    i = 0
    while i < len(tokens):
        head = _head(tokens, i)
        if head is None:
            i += 1
            continue
        kind, end, plural = head
        start, modifiers = _before(tokens, found[-1].end if found else 0, i)
        colour = modifiers.colour
        if colour is None:
            colour, end = _after(tokens, end)
        count = 1 if modifiers.one else modifiers.number or (2 if plural else 1)
        request = Mention(kind, colour, "far" if modifiers.far else None, count, modifiers.more)
        found.append(_Phrase(start, end, None if modifiers.none else request))
        i = end
    return found


def _longest(tokens: list[str], at: int, table: dict[Name, str], most: int) -> tuple[str, int, bool] | None:
    """The longest name that starts at `at`: its value, its end, and whether its last word is a plural."""
    for length in range(min(most, len(tokens) - at), 0, -1):
        words = tuple(tokens[at : at + length])
        if words in table:
            return table[words], at + length, False
        one = singular(words[-1])
        if one is not None and (*words[:-1], one) in table:
            return table[(*words[:-1], one)], at + length, True
    return None


def _head(tokens: list[str], at: int) -> tuple[str, int, bool] | None:
    n = names()
    hue, found = _longest(tokens, at, n.colours, 3), _longest(tokens, at, n.kinds, 4)
    if found is None or (hue is not None and hue[1] > found[1]):
        return None
    following = tokens[found[1]] if found[1] < len(tokens) else ""
    if following in OTHER_HEADS or (_longest(tokens, found[1], n.kinds, 4) and found[1] == at + 1):
        return None  # "tree house" is a house
    if at and tokens[at] in VERBS and (tokens[at - 1] in n.others | {"it", "he", "she", "to"}):
        return None
    return found


class _Modifiers(NamedTuple):
    colour: str | None
    number: int
    one: bool
    none: bool
    more: bool
    far: bool


def _before(tokens: list[str], least: int, head: int) -> tuple[int, _Modifiers]:
    """The start of the head's phrase, and the meaning of the words before the head."""
    n = names()
    start, colour, count, one, none, more, far = head, None, 0, False, False, False, False
    j = head - 1
    while j >= least and head - j <= 6:
        word = tokens[j]
        if word == "of" and j and (tokens[j - 1] in COUNTS or tokens[j - 1] in MANY):
            j -= 1
            continue
        other = word in n.others and word not in MATERIALS
        if not word.isalnum() or word in FOREIGN or other:
            break
        start = j
        if colour is None and (hue := _colour(tokens, least, j)) is not None:
            colour, start = hue
            j = start
        more |= word in MORE
        far |= word in ("distant", "faraway", "remote")
        if word in COUNTS or word in MANY:
            count = COUNTS.get(word, MOST)
        if word in ONE:
            one = not count
            break
        if word in NONE:
            break
        j -= 1
    if start > least and tokens[start - 1] in NONE:
        start -= 1
    none = tokens[start] in NONE
    return start, _Modifiers(colour, count, one, none, more, far)


def _colour(tokens: list[str], least: int, last: int) -> tuple[str, int] | None:
    """The colour whose name ends at `last`, and the start of that name."""
    for start in range(max(least, last - 2), last + 1):
        if (value := names().colours.get(tuple(tokens[start : last + 1]))) is not None:
            return value, start
    return None


def _after(tokens: list[str], end: int) -> tuple[str | None, int]:
    """A colour that follows the head, as in "that is painted blue", and the end of the phrase."""
    at, linked, made = end, False, False
    while at < len(tokens) and at - end < 7:
        word = tokens[at]
        hue = _longest(tokens, at, names().colours, 3) if linked else None
        if hue is not None and not hue[2]:
            nxt = tokens[hue[1]] if hue[1] < len(tokens) else "."
            if made or not nxt.isalpha() or nxt in FOREIGN:
                return hue[0], hue[1] + (made and nxt in MATERIALS)
            return None, end
        if word in LINK:
            linked, made = True, made or word in ("made", "painted", "of")
        elif word not in BETWEEN:
            break
        at += 1
    return None, end
