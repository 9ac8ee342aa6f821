"""WordNet 3.0 as a dictionary: defines words by other words.

It reads the database that Debian's `wordnet-base` installs. Captions, attributes and models are unknown here.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from engine.errors import ModelFilesError

FOLDER: Final = Path("/usr/share/wordnet")
FILES: Final = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
LETTERS: Final = re.compile("[a-z]+")
SILENT: Final = frozenset(
    LETTERS.findall("""
    a an the of or and in to for with by on from as at that which is are be used having not usually some
    any very one it its their his her who whose being has have been was were can may especially
    something someone make made into than more other such often etc two between most out up no this
    these those when where so if all each large small found relating characteristic resembling act
    person genus family order member several various certain kind type
    """)
)
"""Words that occur in definitions of anything."""
POINTERS: Final = {"@": 1.5, "@i": 1.5, "&": 1.5, "\\": 2.0, "+": 0.7, "#p": 0.5, "=": 1.0}
"""Weights of related words: hypernym, class of an instance, similar, pertains to, derived, part of,
attribute."""
SPEECH: Final = {"n": 1.0, "a": 1.0, "v": 0.4, "r": 0.6}
"""Weights of parts of speech: prompts name things and describe them."""
Key = tuple[str, str]


class Synset(NamedTuple):
    words: tuple[str, ...]
    kind: int  # the lexicographer's file: 5 animals, 7 attributes …
    pointers: tuple[tuple[str, Key, int], ...]  # symbol, target, which of its words (from 1; 0: all)
    gloss: str

    def definition(self) -> str:
        """The gloss without examples."""
        return re.sub('"[^"]*"', " ", self.gloss)


class WordNet:
    def __init__(self, folder: Path = FOLDER) -> None:
        """Raises ModelFilesError if the database is not installed."""
        if not (folder / "data.noun").is_file():
            raise ModelFilesError(
                f"no WordNet in {folder}: apt install wordnet-base", field=str(folder / "data.noun")
            )
        self.synsets = {key: s for pos, name in FILES.items() for key, s in _data(folder, pos, name)}
        self.senses: dict[str, list[tuple[Key, int]]] = defaultdict(list)
        """Lower-case words → their synsets, most common first, with their counts in a corpus."""
        seen = _counts(folder)
        for pos, name in FILES.items():
            for line in _lines(folder / f"index.{name}"):
                f = line.split()
                places = f[-int(f[2]) :]
                self.senses[f[0].replace("_", " ")] += [
                    ((pos, place), seen[f[0], pos, i + 1]) for i, place in enumerate(places)
                ]
        found: Counter[str] = Counter()
        for s in self.synsets.values():
            found.update(set(_content(s.definition())))
        every = math.log(len(self.synsets))
        self._weight = {word: 1 - math.log(1 + n) / every for word, n in found.items()}

    def definition(self, word: str) -> dict[str, float]:
        """Words that define this one, with weights that sum to 1. Empty for an unknown word."""
        told: dict[str, float] = defaultdict(float)
        order: Counter[str] = Counter()
        for key, seen in self.senses.get(word, ()):
            share = (1 + math.log1p(seen)) / (1 + 0.5 * order[key[0]]) * SPEECH[key[0]]
            order[key[0]] += 1
            for other, weight in self._sense(self.synsets[key], word).items():
                told[other] += share * weight
        total = sum(told.values())
        return {other: weight / total for other, weight in told.items()} if total else {}

    def _sense(self, synset: Synset, word: str) -> dict[str, float]:
        told: dict[str, float] = defaultdict(float)

        def say(phrase: str, weight: float) -> None:
            parts = [p for p in LETTERS.findall(phrase.lower()) if p != word]
            for part in parts:
                told[part] += weight / len(parts)

        for other in [w for w in synset.words if w.lower() != word][:4]:
            say(other, 1.5)
        for symbol, key, which in synset.pointers:
            if symbol in POINTERS:
                words = self.synsets[key].words
                say(words[which - 1 if which and symbol in "\\+" else 0], POINTERS[symbol])
        first, _, rest = synset.definition().partition(";")
        for text, weight in ((first, 1.0), (rest, 0.3)):
            for part in _content(text):
                told[part] += weight * self._weight[part] * (part != word)
        total = sum(told.values()) or 1
        return {w: v / total for w, v in told.items()}

    def below(self, *roots: Key, symbols: str = "~ ~i") -> Iterator[Synset]:
        """These synsets and all that are kinds or instances of them."""
        seen, queue = set(roots), list(roots)
        while queue:
            synset = self.synsets[queue.pop()]
            yield synset
            for symbol, key, _ in synset.pointers:
                if symbol in symbols.split() and key not in seen:
                    seen.add(key)
                    queue.append(key)


def _counts(folder: Path) -> Counter[tuple[str, str, int]]:
    """(word, part of speech, number of the sense) → its count in a corpus."""
    found: Counter[tuple[str, str, int]] = Counter()
    for line in _lines(folder / "cntlist.rev"):
        name, number, count = line.split()
        word, _, rest = name.partition("%")
        found[word, " nvara"[int(rest[0])], int(number)] += int(count)
    return found


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="latin-1") as file:
        yield from (line for line in file if not line.startswith("  "))


def _data(folder: Path, pos: str, name: str) -> Iterator[tuple[Key, Synset]]:
    """The format is described in wndb(5WN)."""
    for line in _lines(folder / f"data.{name}"):
        body, _, gloss = line.partition("|")
        f = body.split()
        end = 4 + 2 * int(f[3], 16)
        words = tuple(w.partition("(")[0].replace("_", " ") for w in f[4:end:2])
        pointers = tuple(
            (symbol, ("a" if part == "s" else part, place), int(which[2:], 16))
            for symbol, place, part, which in zip(
                *(f[end + 1 + i : end + 1 + 4 * int(f[end]) : 4] for i in range(4)), strict=True
            )
        )
        yield (pos, f[0]), Synset(words, int(f[1]), pointers, gloss.strip())


def _content(text: str) -> list[str]:
    return [w for w in LETTERS.findall(text.lower()) if w not in SILENT and len(w) > 2]
