"""Definitions in the word table: rare words move towards their definitions, common ones stay."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from engine.errors import ModelFilesError
from engine.model.text.wordnet import WordNet
from engine.training.text import stage as text
from engine.training.text import vocabulary
from engine.world.attributes import FIELDS, VALUES
from engine.world.words.extra import extra
from export.text import dictionary

NOUNS = """\
00000001 07 n 01 purple 0 000 | a colour
00000002 27 n 02 amethyst 0 purple_quartz 0 001 @ 00000003 n 0000 | a purple quartz; "an amethyst ring"
00000003 27 n 01 quartz 0 000 | a mineral
00000004 18 n 01 Tyrian 0 000 | a person
00000005 05 n 01 tyrian 0 001 @ 00000001 n 0000 | a snail
"""
INDEX = """\
purple n 1 0 1 1 00000001
amethyst n 1 1 @ 1 1 00000002
purple_quartz n 1 1 @ 1 0 00000002
quartz n 1 0 1 1 00000003
tyrian n 2 1 @ 2 1 00000004 00000005
"""


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    for name in ("verb", "adj", "adv"):
        (tmp_path / f"data.{name}").write_text("  1 a licence\n")
        (tmp_path / f"index.{name}").write_text("  1 a licence\n")
    (tmp_path / "data.noun").write_text("  1 a licence\n" + NOUNS)
    (tmp_path / "index.noun").write_text("  1 a licence\n" + INDEX)
    (tmp_path / "cntlist.rev").write_text("purple%1:07:00:: 1 5\ntyrian%1:18:00:: 1 2\n")
    return WordNet(tmp_path)


def test_a_definition_is_a_set_of_weighted_words(wordnet: WordNet) -> None:
    told = wordnet.definition("amethyst")
    assert sum(told.values()) == pytest.approx(1)
    assert {"purple", "quartz"} <= set(told)
    assert "amethyst" not in told
    assert "ring" not in told  # an example, not the definition
    assert wordnet.definition("nobody") == {}
    assert wordnet.senses["purple"] == [(("n", "00000001"), 5)]
    assert [s.words[0] for s in wordnet.below(("n", "00000003"), symbols="@")] == ["quartz"]


def test_without_wordnet_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match="wordnet-base"):
        WordNet(tmp_path)


def tokenizer(*words: str) -> dict[str, Any]:
    vocab = {w: i for i, w in enumerate(("[UNK]", *words))}
    pieces = {"type": "Whitespace"}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100, "vocab": vocab}  # fmt: skip
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": pieces, "post_processor": None, "decoder": None, "model": model}  # fmt: skip


def test_rare_words_become_tokens_that_mean_their_definition(wordnet: WordNet) -> None:
    common_ids = 6
    known = (
        "am",
        "##eth",
        "##yst",
        "purple",
        "colour",
        "quartz",
        "mineral",
        "snail",
        "ty",
        "##rian",
        "a",
        "red",
    )
    before = torch.randn(len(known) + 1, 32, generator=torch.Generator().manual_seed(3))
    file, after = dictionary.add_definitions(tokenizer(*known), before, wordnet, common=common_ids)
    vocab = file["model"]["vocab"]
    assert after.shape == (len(known) + 1 + 2, 32)  # amethyst, and the snail that shares a name
    found = Tokenizer.from_str(json.dumps(file)).encode("amethyst tyrian purple").tokens
    assert found == ["amethyst", "tyrian", "purple"]
    common = [i for w, i in vocab.items() if i < common_ids and w != "quartz"]
    assert torch.equal(after[common], before[common])
    assert not torch.equal(after[vocab["quartz"]], before[vocab["quartz"]])
    centre = before[[vocab[w] for w in known if w.isalpha() and len(w) > 2]].mean(0)
    near = torch.cosine_similarity(after[vocab["amethyst"]] - centre, before[1 : len(known) + 1] - centre)
    assert known[int(near.argmax())] in ("purple", "quartz")


def test_no_reserved_word_is_among_the_dictionary_s_names_in_any_form() -> None:
    kept = vocabulary.reserved()
    assert {"vermilion", "cobalt", "sparrow", "taiga", "orb", "murk", "mojave"} <= kept
    for values in extra().values():
        for names in values:
            for word in re.findall("[a-z]+", " ".join(names).lower()):
                assert not any(vocabulary.akin(word, k) for k in kept), word
    for word, other in (
        ("mohave", "mojave"),
        ("sparrows", "sparrow"),
        ("flurried", "flurry"),
        ("orb", "orb"),
    ):
        assert vocabulary.akin(word, other)
    assert not vocabulary.akin("evenfall", "eventide")


def test_the_dictionary_s_names_mean_one_thing_each() -> None:
    table = extra()
    assert set(table) == {*FIELDS, "nothing"}
    assert all(len(table[f]) == len(VALUES[f]) for f in FIELDS)
    names = [w.lower() for values in table.values() for names in values for w in set(names)]
    assert len(names) == len(set(names)) > 1500


def test_training_uses_the_dictionary_and_evaluation_does_not() -> None:
    from random import Random

    plain = text.captions(Random(1), 300)[0]
    assert plain == text.captions(Random(1), 300, wide=0.0)[0]
    wide = " ".join(text.captions(Random(1), 300, wide=0.8)[0]).lower()
    strange = {w.lower() for values in extra().values() for names in values for w in names}
    assert sum(w in wide for w in strange) > 150
