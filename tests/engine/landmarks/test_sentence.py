"""Landmarks in prompts: kind, colour, place and number. The hero's own words stay in the prompt."""

from __future__ import annotations

import pytest

from engine.landmarks.names import corrected, names
from engine.landmarks.sentence import read
from engine.world.attributes import COLOURS, LANDMARKS


def said(text: str) -> str:
    found, _ = read(text, LANDMARKS, COLOURS)
    return "; ".join(f"{r.kind} {r.colour or '-'} {r.where or '-'} {r.number}" for r in found)


@pytest.mark.parametrize(
    ("text", "wanted", "rest"),
    [
        ("a red windmill comes into view", "windmill red - 1", ""),
        ("a fox near a blue house", "house blue near 1", "a fox"),
        ("blue fox near a house", "house - near 1", "blue fox"),
        ("two white towers", "tower white - 2", ""),
        ("a black statue on the left", "statue black left 1", ""),
        ("the fox walks left past a red mill", "windmill red near 1", "the fox walks left"),
        ("a robot in the rain, far ahead a purple boulder", "rock purple far 1", "a robot in the rain"),
        ("a tower that is painted green", "tower green - 1", ""),
        ("another yellow lantern ahead", "lamp yellow ahead 1", ""),
        ("a red windmlil and a huose", "windmill red - 1; house - - 1", "and"),
        ("a red fox in a pine forest", "", "a red fox in a pine forest"),
        ("a fox without trees", "", "a fox"),
        ("the red bird towers over the sea", "", "the red bird towers over the sea"),
        ("eine rote Mühle, 123 \u2603", "", "eine rote Mühle, 123 \u2603"),
        ("", "", ""),
    ],
)
def test_named_landmarks_are_read_and_removed(text: str, wanted: str, rest: str) -> None:
    assert said(text) == wanted
    assert read(text, LANDMARKS, COLOURS)[1] == rest


def test_only_kinds_and_colours_of_the_model_are_read() -> None:
    found, rest = read("a yellow house and a red tower", ("house",), ("red",))
    assert [(r.kind, r.colour) for r in found] == [("house", None)]
    assert rest == "and a red tower"


def test_every_kind_in_every_colour_is_read_by_its_own_name() -> None:
    for kind in LANDMARKS:
        for colour in COLOURS:
            assert said(f"a {colour} {kind}") == f"{kind} {colour} - 1"
            assert said(f"three {colour} {kind}s nearby") == f"{kind} {colour} near 3"


def test_real_words_are_not_typos() -> None:
    for word in ("horse", "mouse", "power", "three", "free", "sing", "clock", "greed", "state", "stature"):
        assert corrected(word) == word
    assert names().words >= {"horse", "sing", "stature"}


@pytest.mark.parametrize(
    "text", ["a " * 1000, "red " * 500 + "house", "house " * 400, "§0 §1 house", "(((", "on the left " * 170]
)
def test_any_text_is_read(text: str) -> None:
    read(text, LANDMARKS, COLOURS)
