"""Steering: bit by bit, by weights, at once, and back in time; what is seen, and what the receipts say."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.config import RuntimeConfig
from engine.errors import UnknownSession
from engine.types import (
    Action,
    Control,
    ControlBody,
    Discarded,
    Image,
    OpenSession,
    Pause,
    Prompt,
    Receipt,
    Reset,
    Resume,
    Rewind,
    SegmentReady,
    Weighted,
)
from tests.rigs.fakes import ManualClock, Rig

SEGMENT_S = FAKE_SPEC.segment_s
AHEAD = RuntimeConfig(max_sessions=8, lead_min_s=2.2 * SEGMENT_S, lead_max_s=4 * SEGMENT_S)  # two are queued


def rigged(prompt: str = "a red city", seed: int = 3, **more: float) -> Rig:
    rig = Rig(config=AHEAD, **more)  # type: ignore[arg-type]
    rig.open(prompt=prompt, seed=seed)
    return rig


def sky(segment: SegmentReady) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Mean colour of the last frame's sky."""
    return np.asarray(segment.frames[-1, 20:60].mean((0, 1)))


def same(a: list[SegmentReady], b: list[SegmentReady]) -> bool:
    return [s.frames.tobytes() for s in a] == [s.frames.tobytes() for s in b]


def discarded(rig: Rig) -> list[Discarded]:
    return [e for e in rig.events if isinstance(e, Discarded)]


def last_receipt(rig: Rig) -> Receipt:
    return rig.receipts()[-1]


# ---- bit by bit ----


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
    assert not rig.engine._sessions["s"].timeline.state.fading
    assert not rig.engine._sessions["s"].timeline.state.fade.any()


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
    assert not rig.engine._sessions["s"].timeline.state.fading


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


# ---- at once ----


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
    backend._sleep = rig.clock.advance
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


# ---- back in time ----


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


# ---- receipts ----


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


# ---- two futures of one past ----


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
