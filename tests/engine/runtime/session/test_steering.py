"""Steering: bit by bit, by weights, at once, and back in time; what is seen, and what the receipts say."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from engine.backends.fake import FakeBackend
from engine.types import (
    Action,
    Control,
    ControlBody,
    Discarded,
    Image,
    Pause,
    Prompt,
    Reset,
    Resume,
    Rewind,
    SegmentReady,
    Weighted,
)
from tests.engine.runtime.session.steered import AHEAD, SEGMENT_S, last_receipt, rigged, same, sky
from tests.rigs.engine.fakes import ManualClock, Rig


def discarded(rig: Rig) -> list[Discarded]:
    return [e for e in rig.events if isinstance(e, Discarded)]


def test_a_soft_change_goes_in_even_steps_from_the_old_text_to_the_new() -> None:
    rig, at_once = rigged(), rigged()
    rig.run_segments(2), at_once.run_segments(2)
    rig.submit(Prompt("a blue city", "soft", transition_segments=4))
    at_once.submit(Prompt("a blue city"))
    blues = [sky(s)[2] - sky(s)[0] for s in rig.run_segments(6)]
    steps = [b - a for a, b in pairwise(blues)]
    assert last_receipt(rig).segment == 2  # the first that shows some of it
    assert all(step > 5 for step in steps[:3])
    assert all(abs(step) < 3 for step in steps[3:])
    end = sky(at_once.run_segments(6)[-1])
    np.testing.assert_allclose([end[2] - end[0]], blues[-1:], atol=3)
    assert not rig.session("s").timeline.state.fading
    assert not rig.session("s").timeline.state.fade.any()


def test_a_soft_change_over_one_segment_is_a_recondition() -> None:
    soft, hard = rigged(), rigged()
    for rig, how in ((soft, "soft"), (hard, "recondition")):
        rig.run_segments(3)
        rig.submit(Prompt("a blue city", how, transition_segments=1))  # type: ignore[arg-type]
    assert same(soft.run_segments(3), hard.run_segments(3))


def test_a_soft_change_that_is_overtaken_goes_on_from_where_it_is() -> None:
    rig = rigged()
    rig.run_segments(2)
    rig.submit(Prompt("a blue city", "soft", transition_segments=8))
    before = rig.run_segments(3)[-1]
    rig.submit(Prompt("a green city", "soft", transition_segments=8))
    after = rig.run_segments(8)
    assert np.abs(sky(after[0]) - sky(before)).max() < 40  # no jump
    assert sky(after[-1]).argmax() == 1
    rig.submit(Prompt("a red city", "cut"))
    assert sky(rig.run_segments(2)[-1]).argmax() == 0
    assert not rig.session("s").timeline.state.fading


def test_weighted_prompts_are_mixed_and_only_ratios_count() -> None:
    def shown(*prompts: tuple[str, float]) -> list[SegmentReady]:
        rig = rigged("night")
        rig.run_segments(1)
        rig.submit(Prompt(tuple(Weighted(*p) for p in prompts), "cut"))
        return rig.run_segments(2)

    red, blue = sky(shown(("red", 1.0))[-1]), sky(shown(("blue", 1.0))[-1])
    half = sky(shown(("red", 0.5), ("blue", 0.5))[-1])
    np.testing.assert_allclose(half, (red + blue) / 2, atol=4)
    assert same(shown(("red", 3.0), ("blue", 1.0)), shown(("red", 0.75), ("blue", 0.25)))
    assert same(shown(("red", 7.0)), shown(("red", 0.1)))


def test_what_is_told_of_weighted_prompts() -> None:
    rig = rigged()
    rig.submit(Prompt((Weighted("a fox", 3.0), Weighted("a cube"))))
    rig.run_segments(1)
    assert rig.infos()[-1].prompt == "75% a fox + 25% a cube"


@pytest.mark.parametrize("how", ["recondition", "soft"])
def test_now_goes_on_from_what_is_on_the_screen_as_if_nothing_else_had_been_made(how: str) -> None:
    rig = rigged()
    rig.run(4.3 * SEGMENT_S)
    queued = rig.segments()
    screen = [s for s in queued if s.due_s <= rig.clock()][-1]
    assert len(queued) > screen.segment + 2
    rig.submit(Prompt("a blue city", how, "now"))  # type: ignore[arg-type]
    [new, *_] = rig.run_segments(2)
    assert discarded(rig) == [Discarded("s", 1, screen.segment)]
    assert (new.epoch, new.segment) == (1, len(queued))
    assert new.due_s == pytest.approx(screen.due_s + SEGMENT_S)  # no gap and no jump
    assert (last_receipt(rig).segment, last_receipt(rig).frame) == (new.segment, new.first_frame)
    assert new.late_total == 0
    other = rigged()
    other.run_segments(screen.segment + 1)
    other.submit(Prompt("a blue city", how))  # type: ignore[arg-type]
    assert same(other.run_segments(2), rig.segments()[new.segment :][:2])


@pytest.mark.parametrize(
    "body",
    [
        Prompt("a blue city", "cut", "now"),
        Reset(None, "now"),
        Reset(9, "now"),
        Image(np.full((3, 96, 160), 90, np.uint8), "now"),
    ],
)
def test_a_new_scene_now_is_shown_as_soon_as_it_is_there(body: ControlBody) -> None:
    rig = rigged()
    rig.run(4.1 * SEGMENT_S)
    rig.submit(body)
    asked_s = rig.clock()
    new = rig.run_segments(1)[0]
    assert new.due_s == pytest.approx(asked_s + rig.engine.config.late_margin_s)
    assert new.epoch == 1
    assert rig.run_segments(1)[0].due_s == pytest.approx(new.due_s + SEGMENT_S)


def test_what_took_effect_in_segments_that_are_dropped_still_does() -> None:
    pixels = np.zeros((3, 96, 160), np.uint8)
    pixels[1, :, :80] = 255
    rig = rigged("black")
    rig.run(3.2 * SEGMENT_S)
    rig.submit(Image(pixels))
    rig.run(0.9 * SEGMENT_S)  # a segment with it is queued
    rig.submit(Action("left"))
    rig.submit(Prompt("blue", when="now"))
    rig.run_segments(1)
    shown = rig.run_segments(1)[0].frames[-1, 20:60]
    assert shown[:, :70, 1].mean() > shown[:, 90:, 1].mean() + 40
    assert shown[:, 90:, 2].mean() > 40


class Interrupted(FakeBackend):
    """Runs `then` in the middle of the segment that it is armed for."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(sleep=clock.advance, delay_s=0.02)
        self.then: Callable[[], object] | None = None

    def run(self, role, inputs):  # type: ignore[no-untyped-def]
        if role == "denoise" and self.then is not None and float(inputs["t"][0]) > 0:
            then, self.then = self.then, None
            then()
        return super().run(role, inputs)


@pytest.mark.parametrize(("when", "made_for_nothing"), [("next", 0), ("now", 1)])
def test_a_prompt_in_the_middle_of_a_segment(when: str, made_for_nothing: int) -> None:
    """`next` waits for its end; `now` drops it at the next step."""
    rig = Rig()
    rig.clock = ManualClock()
    backend = Interrupted(rig.clock)
    rig = Rig(backend, config=AHEAD)
    backend.sleep_by(rig.clock.advance)
    rig.open(prompt="a red city", seed=3)
    rig.run_segments(3)
    began = backend.calls["memorize"]
    backend.then = lambda: rig.submit(Prompt("a blue city", when=when))  # type: ignore[arg-type]
    made = rig.run_segments(2)
    blue = [bool(sky(s).argmax() == 2) for s in made]
    assert blue == ([True, True] if made_for_nothing else [False, True])
    assert last_receipt(rig).segment == made[blue.index(True)].segment
    assert backend.calls["memorize"] == began + 2


def test_now_before_anything_is_shown_and_while_paused() -> None:
    rig = rigged()
    rig.submit(Prompt("a blue city", when="now"))
    assert sky(rig.run_segments(2)[-1]).argmax() == 2
    rig.submit(Pause())
    rig.run(5)
    made = len(rig.segments())
    rig.submit(Prompt("a green city", when="now"))
    rig.run(1)
    assert len(rig.segments()) == made
    assert last_receipt(rig).status == "applied"
    rig.submit(Resume())
    assert sky(rig.run_segments(2)[-1]).argmax() == 1
    assert rig.segments()[-1].late_total == 0


def test_two_nows_at_once_are_two_epochs_and_the_last_prompt_counts() -> None:
    rig = rigged()
    rig.run(3.3 * SEGMENT_S)
    for text in ("a blue city", "a green city"):
        rig.submit(Prompt(text, when="now"))
    new = rig.run_segments(1)[0]
    assert (new.epoch, int(sky(new).argmax())) == (2, 1)
    assert [r.segment for r in rig.receipts()] == [new.segment] * 2


def test_a_control_that_comes_too_late_is_refused_as_expired_and_has_no_effect() -> None:
    rig = rigged()
    rig.run_segments(2)
    rig.engine.submit("s", Control("late", Prompt("a blue city"), expires_s=rig.clock() - 0.01))
    rig.engine.submit("s", Control("in time", Action("left"), expires_s=rig.clock() + 5))
    rig.run_segments(1)
    assert [(r.id, r.status, r.code) for r in rig.receipts()] == [
        ("late", "rejected", "expired"),
        ("in time", "applied", None),
    ]
    assert rig.infos()[-1].prompt == "a red city"


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_steered_and_when_the_screen_goes_forward_and_shows_nothing_invalid(
    seed: int,
) -> None:
    """On a device that is busy half the time, sometimes late: what playout would show of it."""
    chance = random.Random(seed)
    rig = rigged(delay_s=0.05, jitter=0.9)
    bodies: list[ControlBody] = [
        Prompt("a blue city", "soft", "now"),
        Prompt("a green city", "cut", "now"),
        Prompt("night"),
        Rewind(1.0),
        Action("left"),
        Pause(),
        Resume(),
        Reset(None, "now"),
    ]
    for _ in range(30):
        rig.run(chance.uniform(0.1, 1.5))
        rig.submit(chance.choice(bodies))
    rig.submit(Resume())
    rig.run(2.0)
    queued: list[SegmentReady] = []
    invalid = 0
    for event in rig.events:
        if isinstance(event, Discarded):
            invalid += sum(s.segment > event.segment for s in queued)
            queued = [s for s in queued if s.segment <= event.segment]
        if isinstance(event, SegmentReady):
            queued.append(event)
    assert invalid > 5
    for a, b in pairwise(queued):
        assert b.segment > a.segment
        assert b.epoch >= a.epoch
        assert b.due_s > a.due_s
        if a.epoch == b.epoch:
            assert b.due_s >= a.due_s + SEGMENT_S / a.rate - 1e-6
    assert [r.id for r in rig.receipts()] == [f"c{n + 1}" for n in range(31)]
    told = [r.segment or 0 for r in rig.receipts()]
    assert told == sorted(told)
