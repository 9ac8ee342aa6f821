"""Captions are read back with the vocabulary itself: longest phrase first, every word accounted for once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import pytest

from engine.training.text import typos as rough
from engine.world.attributes import ACTIONS, FIELDS, VALUES
from engine.world.words import names as words
from engine.world.words import templates, verbs
from engine.world.words.captions import HeldOut, caption, random_caption

Meaning = tuple[str, int]
DIRECTIONS = {"left": ACTIONS.index("left"), "right": ACTIONS.index("right")}


def forms() -> Iterator[tuple[str, Meaning, bool]]:
    """(phrase, meaning, whether it is reserved) for everything in the vocabulary."""

    def each(choices: words.SplitWords, meaning: Meaning) -> Iterator[tuple[str, Meaning, bool]]:
        for held, phrases in ((False, choices.train), (True, choices.held)):
            for phrase in phrases:
                told = phrase.split("|")[-1].split("/")
                for form in (*told, verbs.base(told[0])) if len(told) == 2 else told:
                    yield form, meaning, held

    lists: dict[str, tuple[tuple[words.SplitWords, ...], ...]] = {
        "place": tuple(tuple(place) for place in words.PLACES),
        "time": tuple(tuple(time) for time in words.TIMES),
        "weather": tuple(tuple(weather) for weather in words.WEATHERS),
        "hero": tuple((hero,) for hero in words.HEROES),
        "colour": tuple((colour,) for colour in words.COLOURS),
    }
    for field, values in lists.items():
        for value, kinds in enumerate(values):
            for kind in kinds:
                yield from each(kind, (field, value))
    for known in (*verbs.VERBS, verbs.ANY_VERBS):
        yield from each(known.jump, ("motion", ACTIONS.index("jump")))
        yield from each(known.wait, ("motion", ACTIONS.index("idle")))
        yield from each(known.go, ("motion", -1))
    yield from each(verbs.LEFT, ("motion", DIRECTIONS["left"]))
    yield from each(verbs.RIGHT, ("motion", DIRECTIONS["right"]))


MEANINGS = {form: meaning for form, meaning, _ in forms()}
HELD = {form for form, _, held in forms() if held}
LONGEST_FIRST = "|".join(sorted(map(re.escape, MEANINGS), key=len, reverse=True))
PHRASE = re.compile(rf"(?<![\w-])({LONGEST_FIRST})(?![\w-])")
LAYOUT = re.compile(r"imagine|(^|; )(place|time|weather|who|doing): ")


def read(text: str) -> tuple[dict[str, int], set[str]]:
    """What a caption says, and the phrases that say so."""
    said: dict[str, int] = {}
    phrases = set()
    for match in PHRASE.finditer(text.lower()):
        form = match.group(1)
        field, value = MEANINGS[form]
        phrases.add(form)
        if value >= 0:
            assert said.get(field, value) == value, f"{text!r} contradicts itself about {field}"
            said[field] = value
    return said, phrases


def draw(rng: Random) -> tuple[dict[str, int], int | None]:
    attributes = {field: rng.randrange(len(VALUES[field])) for field in FIELDS}
    return attributes, rng.choice((None, *range(len(ACTIONS))))


def test_no_phrase_has_two_meanings() -> None:
    seen: dict[str, Meaning] = {}
    for form, meaning, _ in forms():
        assert seen.setdefault(form, meaning) == meaning, form


def test_vocabulary_is_rich_enough() -> None:
    def size(*kinds: words.SplitWords) -> int:
        return len({form for kind in kinds for form in (*kind.train, *kind.held)})

    assert min(size(*place) for place in words.PLACES) >= 12
    assert min(size(*time) for time in words.TIMES) >= 6
    assert min(size(*weather) for weather in words.WEATHERS) >= 6
    assert min(size(hero) for hero in words.HEROES) >= 4
    assert min(size(colour) for colour in words.COLOURS) >= 4
    assert min(size(kind) for known in verbs.VERBS for kind in known) >= 5


@pytest.mark.parametrize("held_out", [False, True])
def test_captions_say_exactly_what_they_claim(held_out: bool) -> None:
    rng = Random(1)
    for _ in range(4000):
        attributes, motion = draw(rng)
        text, said = random_caption(attributes, motion, rng, held_out=held_out)
        assert read(text)[0] == said, text


def test_training_captions_never_use_reserved_words() -> None:
    rng = Random(2)
    for _ in range(4000):
        text, _ = random_caption(*draw(rng), rng)
        assert not read(text)[1] & HELD, text
        assert not LAYOUT.search(text.lower()), text


def test_no_reserved_word_is_ever_heard_in_training() -> None:
    """Not only reserved phrases as a whole: what makes them strange occurs nowhere, chatter included."""
    common = {"an", "are", "back", "breaks", "down", "hand", "high", "its", "lost", "side", "way", "world"}
    reserved = {word for form in HELD for word in re.findall("[a-z]+", form.lower())} - common
    plain = {word for form in set(MEANINGS) - HELD for word in re.findall("[a-z]+", form.lower())}
    strange = reserved - plain
    assert {"vermilion", "aerostat", "taiga", "gloaming", "murk", "cloudburst", "waddles"} <= strange
    assert len(strange) >= 142
    said = [*rough.BEFORE, *rough.AFTER, *rough.BETWEEN, *rough.SILENCE, *words.ANYBODY]
    said += [*templates.OPENINGS, *templates.JOURNEYS]
    assert not strange & set(re.findall("[a-z]+", " ".join(said)))


def test_held_out_captions_use_a_reserved_word_or_layout() -> None:
    rng = Random(3)
    for _ in range(2000):
        text, _ = random_caption(*draw(rng), rng, held_out=True)
        chopped = text.count(". ") > 0 or text.endswith(".")
        assert read(text)[1] & HELD or chopped or LAYOUT.search(text.lower()), text


def test_what_must_be_said_is_said() -> None:
    rng = Random(4)
    for _ in range(500):
        attributes, _ = draw(rng)
        _, said = random_caption(attributes, 1, rng, must=frozenset({"weather", "motion"}))
        assert said["weather"] == attributes["weather"]
        assert said["motion"] == 1


def test_weather_is_the_adjective_of_a_named_place() -> None:
    city, snow = VALUES["place"].index("city"), VALUES["weather"].index("snow")
    texts = {caption({"place": city, "weather": snow}, None, Random(seed)) for seed in range(3000)}
    assert any(text.startswith("snowy city") for text in texts)
    assert len(texts) > 1000


def test_motion_fits_the_hero() -> None:
    balloon, right = VALUES["hero"].index("balloon"), ACTIONS.index("right")
    texts = " ".join(caption({"hero": balloon}, right, Random(seed)) for seed in range(300))
    assert "floats" in texts
    assert "walks" not in texts


def test_same_seed_same_words() -> None:
    assert caption({"time": 3}, 2, Random(7)) == caption({"time": 3}, 2, Random(7))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        caption({}, None, Random(0))
    with pytest.raises(ValueError, match="planet"):
        caption({"planet": 1}, None, Random(0))
    with pytest.raises(ValueError, match="place"):
        caption({"place": 8}, None, Random(0))


@pytest.mark.parametrize(("held_out", "word", "layout"), [("words", 1, 0), ("layouts", 0, 1), ("both", 1, 1)])
def test_reserved_words_and_layouts_can_be_asked_for_apart(held_out: HeldOut, word: int, layout: int) -> None:
    rng = Random(5)
    for _ in range(500):
        text, _ = random_caption(*draw(rng), rng, held_out=held_out)
        assert bool(read(text)[1] & HELD) == bool(word), text
        assert bool(LAYOUT.search(text.lower())) <= bool(layout), text
