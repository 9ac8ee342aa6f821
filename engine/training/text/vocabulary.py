"""Widens the vocabulary of training captions by kinds and instances of a value's names in WordNet.

`python -m engine.training.text.vocabulary OUT` writes the TOML file that training reads, once; the result is
in the repository. Words kept for testing are left out in every form, here and by a test.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from engine.model.text.wordnet import LETTERS, Key, Synset, WordNet
from engine.world.attributes import VALUES
from engine.world.words import names as words
from engine.world.words import verbs
from engine.world.words.extra import PATH

ROOTS: Final = {
    "place": {
        "meadow": "grassland.n.1 meadow.n.1 field.n.1 garden.n.1 park.n.2 farm.n.1 country.n.4 lawn.n.1"
        " hill.n.1",
        "forest": "forest.n.1 forest.n.2 tree.n.1",
        "desert": "desert.n.1 dune.n.1 cactus.n.1 oasis.n.1",
        "snowfield": "ice_mass.n.1 glacier.n.1 tundra.n.1 snowfield.n.1 polar_region.n.1 ice.n.1 iceberg.n.1",
        "beach": "beach.n.1 shore.n.1 seashore.n.1 coast.n.1 ocean.n.1 sea.n.1 bay.n.1 island.n.1 lagoon.n.1"
        " gulf.n.1 cove.n.1 wave.n.1",
        "city": "city.n.1 town.n.1 street.n.1 skyscraper.n.1 municipality.n.1 thoroughfare.n.1 shop.n.1",
        "volcano": "volcano.n.1 volcano.n.2 lava.n.1 hell.n.1",
        "moon": "moon.n.1 satellite.n.3 planet.n.1 outer_space.n.1 asteroid.n.1",
    },
    "time": {
        "dawn": "dawn.n.1 morning.n.1 morning.n.3",
        "noon": "noon.n.1 day.n.4 afternoon.n.1",
        "dusk": "twilight.n.1 sunset.n.1 evening.n.1",
        "night": "night.n.1 midnight.n.1 darkness.n.1",
    },
    "weather": {
        "clear": "fair_weather.n.1 sunshine.n.1",
        "rain": "rain.n.1 rainstorm.n.1 thunderstorm.n.1 drizzle.n.1",
        "snow": "snow.n.1 snow.n.2 snowstorm.n.1 blizzard.n.1",
        "fog": "fog.n.1 fog.n.2 haze.n.1 mist.n.1 smog.n.1",
    },
    "hero": {
        "ball": "ball.n.1 ball.n.3 sphere.n.5 globule.n.1 sphere.n.2",
        "cube": "cube.n.1 cube.n.5 box.n.1 block.n.1 crate.n.1 brick.n.1",
        "fox": "fox.n.1",
        "robot": "automaton.n.2 robot.n.1 android.n.1",
        "bird": "bird.n.1",
        "balloon": "balloon.n.1 balloon.n.2 lighter-than-air_craft.n.1",
    },
}  # fmt: skip
"""The synsets whose kinds and instances name each value, as word.part-of-speech.sense."""
STRANGERS: Final = "mammal.n.1 vehicle.n.1 fish.n.1 reptile.n.1 insect.n.1 worker.n.1 fruit.n.1 furniture.n.1"
"""Synsets of other subjects, which are read as no hero."""
MOST: Final = 300
"""Number of names for one value, most common first."""


def akin(a: str, b: str) -> bool:
    """Whether two words are forms or spellings of one word: they differ in their endings or in one letter."""
    if a[:4] != b[:4] and len(a) != len(b):
        return False
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    respelt = len(a) == len(b) > 4 and sum(x != y for x, y in zip(a, b, strict=True)) == 1
    return a == b or respelt or shared >= max(4, min(len(a), len(b)) - 2)


def phrases_of_captions() -> tuple[set[str], set[str]]:
    """All phrases that training uses, and all that are kept for testing."""
    lists: list[words.SplitWords] = [
        *(kind for group in (words.PLACES, words.TIMES, words.WEATHERS) for value in group for kind in value),
        *words.HEROES, *words.COLOURS, *(k for v in (*verbs.VERBS, verbs.ANY_VERBS) for k in v),
        verbs.LEFT, verbs.RIGHT,
    ]  # fmt: skip
    trained, held = ({p.split("|")[-1] for kind in lists for p in kind[i]} for i in (0, 1))
    return trained, held


def reserved() -> frozenset[str]:
    """Every word that only reserved phrases use."""
    said, held = (set(LETTERS.findall(" ".join(p).lower())) for p in phrases_of_captions())
    return frozenset(w for w in held - said if len(w) > 2)


def sense(wordnet: WordNet, name: str) -> Key:
    word, pos, number = name.rsplit(".", 2)
    return [k for k, _ in wordnet.senses[word.replace("_", " ")] if k[0] == pos][int(number) - 1]


def main_sense(wordnet: WordNet, name: str, synset: Synset) -> bool:
    """Whether this is the most likely meaning of the name."""
    senses = [(wordnet.synsets[key] is synset, key[0], seen) for key, seen in wordnet.senses[name]]
    first = next((here for here, pos, _ in senses if pos == "n"), senses[0][0])
    here = sum(n for is_it, _, n in senses if is_it)
    return first and here >= sum(n for is_it, _, n in senses if not is_it)


def phrases(wordnet: WordNet, synsets: Iterable[Synset], kept: frozenset[str]) -> list[str]:
    """Names of synsets, most common first, without reserved words, Latin names, long names, and names that
    mostly mean something else."""
    seen: dict[str, int] = {}
    for s in synsets:
        for word in s.words:
            name = word.lower()
            parts = re.findall("[a-z]+", name)
            usual = re.fullmatch("[a-z' -]{3,22}", name) and len(parts) <= 3
            latin = s.kind in (5, 20) and word != name
            if not usual or latin or any(akin(p, k) for p in parts for k in kept):
                continue
            if main_sense(wordnet, name, s):
                seen[word] = sum(n for _, n in wordnet.senses[name])
    return [w for w, _ in sorted(seen.items(), key=lambda item: (-item[1], len(item[0]), item[0]))]


def colours(wordnet: WordNet, kept: frozenset[str]) -> dict[str, list[str]]:
    """Kinds of our colours, and adjectives whose definitions name exactly one of them."""
    found: dict[str, list[str]] = {hue: [] for hue in VALUES["colour"]}
    for hue in found:
        root = next(k for k, _ in wordnet.senses[hue] if k[0] == "n" and wordnet.synsets[k].kind == 7)
        found[hue] += phrases(wordnet, wordnet.below(root), kept)
    hubs = [sense(wordnet, n) for n in ("chromatic.a.3", "achromatic.a.1")]
    for key in [k for hub in hubs for s, k, _ in wordnet.synsets[hub].pointers if s == "&"]:
        synset = wordnet.synsets[key]
        said = LETTERS.findall(" ".join((*synset.words, synset.definition())).lower())
        hues = {w for w in said if w in found}
        if len(hues) == 1:
            names = [w for w in synset.words if not any(akin(p, k) for p in LETTERS.findall(w) for k in kept)]
            found[hues.pop()] += names
    other = ("brown", "gray", "grey", "pink", "violet", "lavender", "lilac", "mauve", "blu", "redd", *found)

    def pure(hue: str, name: str) -> bool:
        return not any(o in name.lower().replace(hue, "") for o in other)

    return {hue: [w for w in dict.fromkeys(names) if pure(hue, w)] for hue, names in found.items()}


def widen(wordnet: WordNet) -> dict[str, dict[str, list[str]]]:
    kept = reserved()
    table = {
        a: {
            v: phrases(wordnet, wordnet.below(*(sense(wordnet, r) for r in roots.split())), kept)
            for v, roots in values.items()
        }
        for a, values in ROOTS.items()
    }
    table["colour"] = colours(wordnet, kept)
    taken = Counter(w.lower() for values in table.values() for names in values.values() for w in set(names))
    strangers = phrases(wordnet, wordnet.below(*(sense(wordnet, r) for r in STRANGERS.split())), kept)
    table["nothing"] = {"hero": [w for w in strangers if w.lower() not in taken]}
    every = Counter(w.lower() for values in table.values() for names in values.values() for w in set(names))
    return {
        a: {v: [w for w in names if every[w.lower()] == 1][:MOST] for v, names in values.items()}
        for a, values in table.items()
    }


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("out", nargs="?", type=Path, default=PATH)
    out: Path = p.parse_args(argv).out
    lines = [
        "# Kinds and instances of what captions name, from WordNet 3.0; made by training.text.vocabulary.",
        "# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. (Licence: WORDNET.txt)",
    ]
    for attribute, values in widen(WordNet()).items():
        lines += ["", f"[{attribute}]"]
        lines += [f'{value} = "{", ".join(names)}"' for value, names in values.items()]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
