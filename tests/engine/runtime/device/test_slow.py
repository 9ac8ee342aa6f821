"""A device that is slower than playback: slow motion without a gap, holds with a word, and fair shares."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.config import RuntimeConfig
from engine.types import Action, OpenSession, Pause, Prompt, Resume, SegmentAwaited, SegmentReady
from tests.rigs.engine.fakes import TINY_SPEC, Rig

SEGMENT_S, STEPS = TINY_SPEC.segment_s, TINY_SPEC.steps


def at_speed(speed: float, jitter: float = 0.0) -> Rig:
    """A device that makes so many seconds of video per second, for one session at a time."""
    config = RuntimeConfig(max_batch=1)
    return Rig(delay_s=SEGMENT_S / speed / STEPS, jitter=jitter, spec=TINY_SPEC, config=config)


def gaps(segments: list[SegmentReady]) -> list[float]:
    """For how long the picture stands before each segment but the first."""
    return [b.due_s - a.due_s - SEGMENT_S / a.rate for a, b in pairwise(segments)]


def awaited(rig: Rig) -> list[SegmentAwaited]:
    return [e for e in rig.events if isinstance(e, SegmentAwaited)]


@pytest.mark.parametrize("speed", [0.5, 0.8, 0.97])
def test_constant_slow_speed_is_even_slow_motion(speed: float) -> None:
    rig = at_speed(speed)
    rig.open()
    rig.run(120.0)
    segments = rig.segments()[3:]
    assert max(map(abs, gaps(segments))) < 1e-6  # no frozen picture, nothing is skipped
    rates = {round(s.rate, 6) for s in segments[20:]}
    assert len(rates) == 1
    assert 0.94 * speed < rates.pop() < speed
    assert segments[-1].speed == pytest.approx(speed, rel=0.01)
    assert segments[-1].late_total <= 1
    ahead_s = [s.lead_s for s in segments[20:]]
    assert max(ahead_s) - min(ahead_s) < 0.05  # and no lag that grows
    assert max(ahead_s) < SEGMENT_S / speed


def test_a_device_at_half_speed_is_slow_from_its_first_segment_on() -> None:
    rig = at_speed(0.5)
    rig.open()
    segments = rig.run_segments(5)
    assert [s.late_total for s in segments] == [0] * 5
    assert max(map(abs, gaps(segments))) < 1e-6


def test_the_very_slow_hold_for_long_and_then_show_whole_segments_as_motion() -> None:
    rig = at_speed(0.03)
    rig.open()
    rig.run(300.0)
    segments = rig.segments()
    takes_s = SEGMENT_S / 0.03
    assert {s.rate for s in segments} == {6 / TINY_SPEC.fps}
    plays_s = SEGMENT_S / segments[0].rate
    assert gaps(segments)[1:] == pytest.approx([takes_s - plays_s] * (len(segments) - 2), rel=0.01)
    for told, segment in zip(awaited(rig), segments[1:], strict=False):  # and it came as was said
        assert told.due_s == pytest.approx(segment.due_s, abs=0.1)
        assert told.speed == pytest.approx(0.03, rel=0.01)
        assert told.rate == segment.rate


def test_a_little_too_slow_holds_seldom_and_calmly_rather_than_at_every_segment() -> None:
    rig = at_speed(0.3)
    rig.open()
    rig.run(300.0)
    segments = rig.segments()[3:]
    held = [gap for gap in gaps(segments) if gap > 1e-6]
    assert held
    assert min(held) > 2.9
    assert len(held) < len(segments) / 5
    shown_s = segments[-1].due_s - segments[0].due_s
    assert len(segments) * SEGMENT_S / shown_s == pytest.approx(0.3, rel=0.05)  # the device never idles


@pytest.mark.parametrize("usual", [1.0, 0.6])
def test_a_jittery_device_seldom_stutters(usual: float) -> None:
    rig = at_speed(usual, jitter=0.4)
    rig.open()
    rig.run(200.0)
    segments = rig.segments()[5:]
    stood_s = [gap for gap in gaps(segments) if gap > 1e-6]
    assert len(stood_s) <= len(segments) * 0.02
    assert sum(stood_s) < 0.002 * 200
    assert all(gap > -1e-6 for gap in gaps(segments))  # never faster than natural, never skipping
    assert max(s.rate for s in segments) <= 1.0


def test_a_device_that_slows_down_and_recovers_is_followed_both_ways() -> None:
    rig = at_speed(2.0)
    rig.open()
    rig.run(20.0)
    assert {s.rate for s in rig.segments()} == {1.0}
    rig.backend.delay_s *= 4
    rig.run(30.0)
    slow = rig.segments()[-10:]
    assert max(map(abs, gaps(slow))) < 1e-6
    assert slow[-1].rate == pytest.approx(0.48, abs=0.02)
    assert slow[-1].late_total <= 2  # the first two slow ones came unforeseen
    rig.backend.delay_s /= 4
    rig.run(30.0)
    assert [s.rate for s in rig.segments()[-10:]] == [1.0] * 10
    assert rig.segments()[-1].late_total <= 2
    assert rig.segments()[-1].lead_s < SEGMENT_S  # what was collected is used up: steering is prompt again


def test_controls_take_hold_with_the_next_segment_that_is_begun() -> None:
    rig = at_speed(0.5)
    rig.open(prompt="a red city")
    rig.run_segments(5)
    rig.submit(Prompt("a blue city"))
    rig.submit(Action("left"))
    [shows] = rig.run_segments(1)
    assert {r.segment for r in rig.receipts()} == {shows.segment}
    assert shows.due_s - rig.clock() < SEGMENT_S / 0.5  # not behind a long queue


def test_sessions_that_share_a_device_get_the_same_and_say_so() -> None:
    alone = 5 / 3
    rig = at_speed(alone)
    names = ["a", "b", "c"]
    for name in names:
        rig.open(name)
    rig.run(120.0)
    counts = [len(rig.segments(name)) for name in names]
    assert max(counts) - min(counts) <= 0.04 * max(counts)
    for name in names:
        segments = rig.segments(name)[10:]
        assert all(0.9 * alone / 3 < s.speed < alone for s in segments)  # some waiting is idle
        assert sum(s.rate for s in segments) / len(segments) == pytest.approx(alone / 3, rel=0.15)
        assert sum(gap for gap in gaps(segments) if gap > 0) < 0.01 * 120
    for name in names[1:]:
        rig.engine.close_session(name)
    rig.run(30.0)
    assert rig.segments("a")[-1].rate == 1.0


# ---- what is told ----


def test_a_device_that_keeps_up_has_nothing_to_tell() -> None:
    rig = at_speed(5.0)
    rig.engine.warm_up()
    rig.open()
    rig.run(20.0)
    rig.submit(Prompt("night", how="cut"))
    rig.run(20.0)
    assert [e.due_s is not None for e in awaited(rig)] == [True]  # the first segment: nothing is shown yet
    assert {s.rate for s in rig.segments()} == {1.0}


def test_slow_motion_waits_for_nothing() -> None:
    rig = at_speed(0.5)
    rig.open()
    rig.run(60.0)
    assert awaited(rig) == []


def test_the_first_segment_is_expected_as_warming_up_has_shown() -> None:
    rig = at_speed(0.1)
    usual_s = rig.engine.warm_up()
    assert usual_s == pytest.approx(5.0)
    rig.open()
    start_s = rig.clock()
    [first] = rig.run_segments(1)
    [told] = awaited(rig)
    assert told.due_s is not None
    assert told.due_s == pytest.approx(first.due_s, abs=0.1)
    assert told.due_s - start_s == pytest.approx(usual_s * TINY_SPEC.first_steps / STEPS)
    assert told.speed == pytest.approx(0.1)


def test_warming_up_a_slow_device_takes_one_segment_not_three() -> None:
    rig = at_speed(0.01)
    assert rig.engine.warm_up() == pytest.approx(50.0)
    assert rig.backend.calls["decode"] == 1


@pytest.mark.parametrize("how", ["paused", "unwatched"])
def test_what_was_awaited_is_taken_back_when_nothing_more_is_made(how: str) -> None:
    rig = at_speed(0.1)
    rig.open()
    rig.run_segments(3)
    if how == "paused":
        rig.submit(Pause())
    else:
        rig.engine.set_watched("s", False)
    rig.run(60.0)
    assert awaited(rig)[-1].due_s is None
    before = len(awaited(rig))
    rig.submit(Resume())
    rig.engine.set_watched("s", True)
    now_s = rig.clock()
    rig.run_segments(1)
    told = awaited(rig)[before]
    assert told.due_s is not None
    assert told.due_s == pytest.approx(now_s + 5.0, abs=0.1)


def test_what_waits_is_said_between_the_steps_of_a_long_segment() -> None:
    """A session that is opened while the device works for a minute must not wait for it."""
    rig = at_speed(0.01)
    rig.open("a")
    heard: list[int] = []
    calls = rig.backend.calls

    def sleep(seconds: float) -> None:
        rig.clock.advance(seconds)
        if calls["denoise"] == 1:
            rig.engine.open(OpenSession("b", "a fox", 1))
        heard.append(len(rig.infos("b")))

    rig.backend.sleep_by(sleep)
    rig.run_segments(1, "a")
    assert heard[0] == 0
    assert all(heard[1:])
