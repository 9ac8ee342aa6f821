"""The test prompts have valid labels, and most of them are read correctly."""

from __future__ import annotations

from engine.evaluation.landmark_accuracy import OTHER_NOUNS, made, main, said, typed
from engine.world.attributes import COLOURS, LANDMARKS


def test_the_labels_of_the_examples_are_valid() -> None:
    for example in (*typed(), *made(), *made(OTHER_NOUNS)):
        for one in example.said.split("; ") if example.said else []:
            kind, colour, where, count = one.split()
            assert kind in LANDMARKS
            assert colour in ("-", *COLOURS)
            assert where in ("-", "near", "ahead", "left", "right", "behind", "far")
            assert int(count) >= 1


def test_most_are_read_correctly_and_none_where_none_is_named() -> None:
    examples = (*typed(), *made())
    right = [said(e.text) == e.said for e in examples]
    assert len(examples) >= 200
    assert sum(right) > 0.8 * len(right)
    assert all(said(e.text) == "" for e in examples if not e.said)


def test_the_command_prints_a_table(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main([]) == 0
    assert capsys.readouterr().out.count("| ") > 10
