"""Rewinding a session and forking it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from engine.errors import UnknownSession
from engine.types import (
    Action,
    OpenSession,
    Prompt,
    Rewind,
)
from tests.engine.runtime.session.steered import SEGMENT_S, last_receipt, rigged, same, sky
from tests.rigs.engine.fakes import Rig


def test_a_rewind_shows_the_same_again_and_numbers_go_on() -> None:
    rig = rigged()
    rig.run(2.4 * SEGMENT_S)
    rig.submit(Prompt("a blue city"))
    rig.run(6 * SEGMENT_S)
    rig.submit(Prompt("a green city"))
    rig.run(4.1 * SEGMENT_S)
    before = rig.segments()
    then_s = rig.clock() - 6 * SEGMENT_S
    there = [s for s in before if s.due_s <= then_s][-1]
    rig.submit(Rewind(6 * SEGMENT_S))
    again = rig.run_segments(3)
    assert same(again, before[there.segment :][:3])
    assert rig.infos()[-1].prompt == "a blue city"
    assert [s.segment for s in rig.segments()] == list(range(len(rig.segments())))
    assert again[0].due_s == pytest.approx(then_s + 6 * SEGMENT_S + 0.03)
    receipt = last_receipt(rig)
    assert (receipt.status, receipt.segment) == ("applied", again[0].segment)
    assert re.fullmatch(r"back by 3\.\d s", str(receipt.message))


def test_a_second_rewind_goes_further_back_and_a_far_one_as_far_as_is_kept() -> None:
    rig = rigged()
    rig.run(10.3 * SEGMENT_S)
    first = rig.segments()
    rig.submit(Rewind(3 * SEGMENT_S))
    rig.run_segments(1)
    rig.run(0.01)
    rig.submit(Rewind(3 * SEGMENT_S))
    assert same(rig.run_segments(1), first[4:5]) or same(rig.segments()[-1:], first[3:4])
    rig.submit(Rewind(3000.0))
    assert same(rig.run_segments(3), first[:3])
    assert str(last_receipt(rig).message).endswith(" s, as far as is kept")


def test_rewinding_and_a_cut_play_the_same_scene_as_before() -> None:
    """Noise comes from seed, scene and place in it, never from how often somebody went back."""
    rig = rigged()
    rig.run(1.2 * SEGMENT_S)
    rig.submit(Prompt("night", "cut"))
    rig.run(4 * SEGMENT_S)
    cut = last_receipt(rig).segment
    assert cut is not None
    night = rig.segments()[cut : cut + 2]
    rig.submit(Rewind(3.9 * SEGMENT_S))
    rig.submit(Prompt("night", "cut", "now"))
    assert same(rig.run_segments(2), night)


def open_fork(rig: Rig, name: str = "f", **more: object) -> None:
    command = OpenSession(**{"session": name, "prompt": None, "seed": None, "fork_of": "s"} | more)  # type: ignore[arg-type]
    rig.engine.open(command)
    rig.engine.set_watched(name, True)


def test_a_fork_goes_on_as_its_source_does_until_it_is_steered() -> None:
    rig = rigged()
    rig.submit(Action("right"))
    rig.submit(Prompt("a blue city", "soft", transition_segments=8))
    rig.run(3.3 * SEGMENT_S)
    screen = [s for s in rig.segments() if s.due_s <= rig.clock()][-1]
    open_fork(rig)
    fork = rig.run_segments(4, "f")
    rig.run_segments(2)
    assert [s.segment for s in fork] == [0, 1, 2, 3]
    assert same(fork, rig.segments()[screen.segment + 1 :][:4])
    assert (rig.infos("f")[0].prompt, rig.infos("f")[0].action) == ("a blue city", "right")
    rig.submit(Prompt("a green city", "cut"), session="f")
    rig.run_segments(3, "f")
    rig.run_segments(3)
    assert sky(rig.segments("f")[-1]).argmax() == 1
    assert sky(rig.segments()[-1]).argmax() == 2


def test_a_fork_of_the_past_with_its_own_prompt_and_seed() -> None:
    rig = rigged()
    rig.run(8.3 * SEGMENT_S)
    open_fork(rig, "same", rewind_s=4 * SEGMENT_S)
    open_fork(rig, "seed", rewind_s=4 * SEGMENT_S, seed=99)
    open_fork(rig, "prompt", rewind_s=4 * SEGMENT_S, prompt="a blue city")
    open_fork(rig, "image", image=np.full((3, 96, 160), 30, np.uint8))
    first = {name: rig.run_segments(1, name) for name in ("same", "seed", "prompt", "image")}
    assert same(first["same"], rig.segments()[4:5])
    assert not same(first["seed"], first["same"])
    assert sky(first["prompt"][0]).argmax() == 2
    assert rig.infos("seed")[0].seed == 99
    with pytest.raises(UnknownSession) as caught:
        open_fork(rig, "x", fork_of="nobody")
    assert caught.value.field == "fork_of"


def test_a_fork_of_what_was_never_shown_begins_as_its_source_does() -> None:
    rig = rigged()
    open_fork(rig)
    assert same(rig.run_segments(2, "f"), rig.segments()[:2] or rig.run_segments(2)[:2])
