"""Names of landmarks and colours for prompts, from WordNet and from the words of captions.

`python -m engine.training.text.landmark_names [OUT]` writes the file that `engine.landmarks` reads, once; the
result is in the repository.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from engine.backends.artifact import BUILT_IN, TOKENIZER
from engine.landmarks.function_words import words as _words
from engine.landmarks.names import PATH
from engine.model.text.wordnet import LETTERS, Synset, WordNet
from engine.spelling import one_slip, swapped
from engine.training.text.vocabulary import sense
from engine.world.attributes import COLOURS, LANDMARKS
from engine.world.words import names as words
from engine.world.words.extra import extra

ROOTS: Final = {
    "tree": "tree.n.1",
    "house": "house.n.1 dwelling.n.1 hut.n.2 cabin.n.2 barn.n.1 church.n.2",
    "tower": "tower.n.1 castle.n.2 castle.n.1 lighthouse.n.1 obelisk.n.1 fortress.n.1",
    "windmill": "windmill.n.1 windmill.n.2",
    "rock": "rock.n.1 boulder.n.1 cliff.n.1",
    "lamp": "lamp.n.1 lantern.n.1 torch.n.1",
    "sign": "sign.n.2 sign.n.4 signpost.n.1",
    "statue": "statue.n.1 sculpture.n.1 monument.n.1 effigy.n.1",
}
PLAIN: Final = {
    "tree": "oak, birch, fir, spruce, maple, poplar, palm, palm tree, oak tree, pine tree",
    "house": "cottage, farm house",
    "tower": "castle, tower block",
    "windmill": "wind mill, mill, wind turbine",
    "rock": "stone, boulder",
    "lamp": "lantern, street lamp, street light, lamp post, lamppost",
    "sign": "road sign, street sign, sign post, signboard",
    "statue": "sculpture, monument",
}
"""What everybody says, in whatever sense a dictionary counts first."""
SPOKEN_OTHERWISE: Final = _words(
    "spread hearth marble bronze mobile crystal mahogany pear apple avocado coconut citrus citron snag "
    "locust hardtack terminus sconce concretion sill modeling moulding bulb fireside residence dairy "
    "manor beacon shingle posting calculus belay limelight terminal embossment bay box cherry coffee "
    "cork date fig home lemon lime olive orange peach plum rose white black red cordia china tea nut "
    "ash balsam ivory rubber candle flash torch lead spot bank light hall stela post plaque brass set "
    "bust notice sand tent "
)
"""Names that mean something else in most prompts."""
MOST: Final = {"tree": 120}  # the commonest of a kind with very many
SENSES: Final = 3  # a name counts if one of its first so many is of the kind


def phrases(wordnet: WordNet, synsets: Iterable[Synset]) -> list[str]:
    """Their names in small letters, the commonest first, without Latin, proper and long ones."""
    seen: dict[str, int] = {}
    for s in synsets:
        for word in s.words:
            plain = re.fullmatch("[a-z' -]{3,22}", word) and len(word.split()) <= 3
            nouns = [key for key, _ in wordnet.senses[word] if key[0] == "n"][:SENSES]
            if plain and any(wordnet.synsets[key] is s for key in nouns):
                seen[word.replace("-", " ")] = sum(n for _, n in wordnet.senses[word])
    return [w for w, _ in sorted(seen.items(), key=lambda item: (-item[1], len(item[0]), item[0]))]


def kinds(wordnet: WordNet) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    plain = {kind: [kind, *PLAIN[kind].split(", ")] for kind in LANDMARKS}
    taken = {name for names in plain.values() for name in names} | SPOKEN_OTHERWISE
    taken |= {n for some in words.COLOURS for kind in some for n in kind}
    taken |= {n.split("|")[-1] for place in words.PLACES for kind in place for n in kind[0] + kind[1]}
    for kind in LANDMARKS:
        below = wordnet.below(*(sense(wordnet, root) for root in ROOTS[kind].split()))
        told = phrases(wordnet, below)
        told = [n for i, n in enumerate(told) if i < MOST.get(kind, len(told)) or n.endswith(f" {kind}")]
        found[kind] = [
            *plain[kind],
            *(n for n in dict.fromkeys(told) if n not in taken and n.split()[0] not in COLOURS),
        ]
        taken |= set(found[kind])
    return found


def colours() -> dict[str, list[str]]:
    found = {}
    for i, colour in enumerate(COLOURS):
        told = [colour, *(n for some in words.COLOURS[i] for n in some)]
        found[colour] = list(dict.fromkeys(n.lower().replace("-", " ") for n in told))
    taken = {n for names in found.values() for n in names}
    for i, colour in enumerate(COLOURS):
        more = [n.lower().replace("-", " ") for n in extra()["colour"][i]]
        found[colour] += [n for n in dict.fromkeys(more) if n not in taken]
        taken |= set(more)
    return found


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("out", nargs="?", type=Path, default=PATH)
    out: Path = p.parse_args(argv).out
    wordnet = WordNet()
    told, hues = kinds(wordnet), colours()
    heroes = {w for some in words.HEROES for kind in some for n in kind for w in [n.split()[-1]]}
    others = {*heroes, *(w for w in words.ANYBODY if w not in LANDMARKS)} - {
        n for k in told.values() for n in k
    }
    vocabulary = json.loads((BUILT_IN / TOKENIZER).read_text())["model"]["vocab"]
    real = {w for w in (*wordnet.senses, *vocabulary) if LETTERS.fullmatch(w) and len(w) > 3}
    meant = [w + end for w in (*LANDMARKS, *COLOURS) for end in ("", "s")]
    alike = {
        w
        for w in real
        for m in meant
        if w[0] == m[0] and abs(len(w) - len(m)) < 2 and (one_slip(w, m) if len(m) > 4 else swapped(w, m))
    }
    lines = [
        "# Names of landmarks and colours, from WordNet 3.0 and the captions' words; made by",
        "# training.text.landmark_names. WordNet 3.0 Copyright 2006 by Princeton University. All rights",
        "# reserved. (Licence: engine/world/words/WORDNET.txt)",
        f'others = "{" ".join(sorted(others))}"',
        f'words = "{" ".join(sorted(alike))}"',
    ]
    for key, table in (("kinds", told), ("colours", hues)):
        lines += ["", f"[{key}]", *(f'{value} = "{", ".join(names)}"' for value, names in table.items())]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
