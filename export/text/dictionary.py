"""Adds a dictionary's definitions to MiniLM's word table.

Each word of WordNet that is rare in the checkpoint, or split into pieces by its tokenizer, gets a row that
mixes its own with those of the words in its definition: "amethyst" gets much of "purple" and "quartz". Split
words become tokens. This covers all visible things in the dictionary; it does not use captions or attributes.
Legend: V vocabulary, E width.
"""

from __future__ import annotations

import json
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor

from engine.model.text.wordnet import LETTERS, WordNet

KINDS: Final = frozenset({0, 1, 5, 6, 7, 13, 15, 17, 19, 20, 25, 26, 27, 28})
"""Lexicographer files of visible things and their properties: adjectives, animals, artefacts, attributes,
food, places, natural objects, phenomena, plants, shapes, states, substances, times."""
COMMON: Final = 5000
"""Ids are in order of frequency; words below this id have good rows already."""
LONGEST: Final = 12
OWN: Final = 0.4
"""Share of a rare word's own row; the rest comes from its definition."""
PIECES: Final = 0.25
"""The same for a split word, whose pieces often mean something else."""


def new_words(wordnet: WordNet, known: dict[str, int]) -> list[str]:
    """The words that the tokenizer splits and that may mean something visible, in alphabetical order.
    Includes names of places but no other names, and no negations."""
    found = []
    for word, senses in wordnet.senses.items():
        if not LETTERS.fullmatch(word) or not 3 <= len(word) <= LONGEST or word in known:
            continue
        synsets = [wordnet.synsets[key] for key, _ in senses]
        visible = any(s.kind in KINDS and (s.kind in (15, 17) or word in s.words) for s in synsets)
        if visible and not word.startswith(("un", "non")):
            found.append(word)
    return sorted(found)


def add_definitions(
    tokenizer: dict[str, Any], table: Tensor, wordnet: WordNet, *, common: int = COMMON
) -> tuple[dict[str, Any], Tensor]:
    """A WordPiece tokenizer file and its table (V, E) → both with new words, (V + n, E). Rows below `common`
    stay as they are."""
    known = dict(tokenizer["model"]["vocab"])
    pieces = Tokenizer.from_str(json.dumps(tokenizer))
    pieces.no_padding()
    pieces.no_truncation()
    added = new_words(wordnet, known)
    rare = [w for w, i in known.items() if i >= common and LETTERS.fullmatch(w) and w in wordnet.senses]
    definitions = {word: wordnet.definition(word) for word in [*rare, *added]}
    names = sorted({*definitions, *(w for d in definitions.values() for w in d)})
    place = {w: i for i, w in enumerate(names)}
    found = pieces.encode_batch(names, add_special_tokens=False)
    static = torch.stack([table[e.ids].mean(0) for e in found])
    whole = [known[w] for w in known if LETTERS.fullmatch(w) and len(w) > 2]
    centre = table[whole].mean(0)
    length = (table[whole] - centre).norm(dim=1).mean()
    static = static - centre
    static = static / static.norm(dim=1, keepdim=True).clamp(min=1e-6)
    rows = torch.cat([table, torch.zeros(len(added), table.shape[1])])
    for i, word in enumerate(added):
        known[word] = len(table) + i
    for word, definition in definitions.items():
        row = static[place[word]]
        if definition:
            own = OWN if known[word] < len(table) else PIECES
            weights = torch.tensor(list(definition.values()))
            meaning = (weights[:, None] * static[[place[w] for w in definition]]).sum(0)
            row = own * row + (1 - own) * meaning / meaning.norm().clamp(min=1e-6)
        rows[known[word]] = centre + length * row / row.norm().clamp(min=1e-6)
    model = {**tokenizer["model"], "vocab": known}
    return {**tokenizer, "model": model}, rows
