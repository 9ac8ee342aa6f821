"""Slips of the finger are mended, words that somebody knows are not."""

from __future__ import annotations

from random import Random

import pytest

from engine.spelling import one_slip
from engine.training.text.typos import misspell
from engine.world.words.spelling import mend, vocabulary


@pytest.mark.parametrize(
    ("typed", "meant"), [("medow", "meadow"), ("vulcano", "volcano"), ("ctiy", "city"), ("snowwy", "snowy")]
)
def test_a_slip_is_mended(typed: str, meant: str) -> None:
    assert mend(f"a {typed}, please", frozenset()).split()[1] == f"{meant},"


def test_what_is_known_short_or_far_away_stays() -> None:
    assert mend("Beech trees on the medow", {"beech", "medow"}) == "Beech trees on the medow"
    assert mend("fxo asdfgh 1234", frozenset()) == "fxo asdfgh 1234"
    assert mend("", frozenset()) == ""


def test_every_slip_that_rough_prompts_have_is_one() -> None:
    rng = Random(1)
    for word in sorted(vocabulary()):
        slipped = misspell(word, rng)
        assert slipped == word or (one_slip(slipped, word) and one_slip(word, slipped)), (word, slipped)
    assert not one_slip("night", "night")
    assert not one_slip("night", "noght s")


def test_words_of_captions_are_never_changed() -> None:
    text = " ".join(sorted(vocabulary()))
    assert mend(text, frozenset()) == text
