"""What prompts say beyond tokens: landmarks that are to come, and values that the seed fills in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.runtime.log.reader import read_log
from engine.runtime.session.replay import replay
from engine.types import Action, NamedLandmark, OpenSession, Prompt, Reset, Rewind, SessionInfo
from tests.rigs.engine.fakes import Rig

SPEC = replace(
    FAKE_SPEC,
    attributes=("place meadow beach desert city moon", "hero fox robot bird"),
    landmarks=48,
    landmark_colours=("red", "blue", "green"),
)


def now(rig: Rig) -> SessionInfo:
    return rig.session("s").info()


def names(rig: Rig) -> list[tuple[str, str, bool]]:
    return [(one.kind, one.colour, one.met) for one in now(rig).landmarks]


def check(rig: Rig) -> None:
    """The session's log makes its video again."""
    backend = FakeBackend(SPEC)
    log = read_log(rig.engine.take("s", "log").data, SPEC, backend.fingerprint)
    again = {s.segment: s.frames for s, _ in zip(replay(log, backend), range(log.segments), strict=False)}
    made = {s.segment: s.frames for s in rig.segments()}
    for number, frames in made.items():
        np.testing.assert_array_equal(again[number], frames)


def test_a_landmark_is_planned_told_and_comes_into_view() -> None:
    rig = Rig(spec=SPEC)
    rig.open(prompt="a fox")
    rig.submit(Action("right"))
    rig.run_segments(4)
    rig.submit(Prompt("a red house comes into view"))
    rig.run_segments(1)
    (told,) = now(rig).landmarks
    assert (told.kind, told.colour, told.met) == ("house", "red", False)
    assert SPEC.width / 2 < told.px < 1.7 * SPEC.width
    assert rig.infos()[-1].landmarks[0].kind == "house"
    rig.run_segments(20)
    assert names(rig) == [("house", "red", True)]
    assert rig.infos()[-1].landmarks[0].met
    assert now(rig).landmarks[0].px < told.px
    check(rig)


def test_a_scene_begins_with_what_its_prompt_names_and_a_cut_ends_it() -> None:
    rig = Rig(spec=SPEC)
    rig.open(prompt="a robot near a blue tree")
    rig.run_segments(2)
    (told,) = now(rig).landmarks
    assert (told.kind, told.colour, told.met) == ("tree", "blue", True)
    assert abs(told.px) < SPEC.width / 2
    rig.submit(Prompt("a fox", "cut"))
    rig.run_segments(1)
    assert names(rig) == []
    rig.submit(Prompt("two green houses on the left"))
    rig.run_segments(1)
    assert [one.px < 0 for one in now(rig).landmarks] == [True, True]
    check(rig)


def test_forks_rewinds_and_snapshots_have_the_plan() -> None:
    rig = Rig(spec=SPEC)
    rig.open(prompt="a fox")
    rig.run_segments(3)
    rig.submit(Prompt("a red house ahead"))
    rig.run_segments(3)
    told = now(rig).landmarks
    saved = rig.engine.take("s", "snapshot").data
    rig.engine.open(OpenSession("f", None, None, fork_of="s"))
    rig.engine.open(OpenSession("r", None, None, snapshot=saved))
    assert rig.session("f").info().landmarks == rig.session("r").info().landmarks == told
    rig.submit(Rewind(1.6))
    rig.run_segments(1)
    assert now(rig).landmarks == ()
    check(rig)


def test_what_no_prompt_says_is_chosen_by_the_seed_told_and_stays() -> None:
    rig = Rig(spec=SPEC)
    rig.open(prompt="a fox", seed=3)
    rig.run_segments(1)
    first = now(rig)
    assert first.attributes["hero"] == "fox"
    assert first.chosen == ("place",)
    assert rig.infos()[-1].attributes == first.attributes
    rig.submit(Prompt("night"))
    rig.run_segments(1)
    assert now(rig).attributes == first.attributes
    rig.submit(Prompt("a robot in the city"))
    rig.run_segments(1)
    assert (now(rig).attributes, now(rig).chosen) == ({"place": "city", "hero": "robot"}, ())
    check(rig)


def test_the_same_seed_and_prompt_choose_alike_and_others_do_not() -> None:
    def chosen(seed: int) -> dict[str, str]:
        rig = Rig(spec=SPEC)
        rig.open(prompt="snow", seed=seed)
        rig.run_segments(1)
        return now(rig).attributes

    assert chosen(5) == chosen(5)
    assert len({tuple(chosen(seed).items()) for seed in range(8)}) > 3


def test_a_scene_from_a_picture_leaves_open_what_nobody_said() -> None:
    rig = Rig(spec=SPEC)
    picture = np.zeros((3, SPEC.height, SPEC.width), np.uint8)
    rig.engine.open(OpenSession("s", "a fox", 1, picture))
    rig.engine.set_watched("s", True)
    rig.run_segments(1)
    assert (now(rig).attributes, now(rig).chosen) == ({"hero": "fox"}, ())
    rig.submit(Reset(4))
    rig.run_segments(1)
    assert now(rig).attributes == {"hero": "fox"}


def test_the_heros_colour_is_no_landmarks_and_the_landmarks_none_of_the_heros() -> None:
    spec = replace(SPEC, attributes=("colour red blue green", "hero fox robot"))
    rig = Rig(spec=spec)
    rig.open(prompt="a blue fox near a red house")
    rig.run_segments(1)
    assert now(rig).attributes == {"colour": "blue", "hero": "fox"}
    assert now(rig).landmarks == (NamedLandmark("house", "red", now(rig).landmarks[0].px, True),)
