"""An idle device is measured again: what it took while other programs starved it does not last."""

from __future__ import annotations

import pytest

from engine.backends.fake import FakeBackend
from engine.config import RuntimeConfig
from engine.runtime.device.remeasuring import FIRST_S, MOST_S, SEGMENTS, SHARE
from engine.types import Capacity, Pause, SegmentReady
from tests.rigs.engine.fakes import TINY_SPEC, Rig

SEGMENT_S, STEPS = TINY_SPEC.segment_s, TINY_SPEC.steps


def idle(speed: float) -> Rig:
    """An engine that has measured a device of this speed, and that nobody uses."""

    def sleep(seconds: float) -> None:
        rig.clock.advance(seconds)

    backend = FakeBackend(TINY_SPEC, delay_s=delay_s(speed), sleep=sleep)
    rig = Rig(backend, config=RuntimeConfig(max_sessions=40, max_batch=1))
    rig.engine.warm_up()
    rig.run(0.0)
    return rig


FAST = 17  # what a device of speed 21 serves: 0.85 of it


def delay_s(speed: float) -> float:
    """Of a call, if the device makes so many seconds of video per second."""
    return SEGMENT_S / speed / STEPS


def capacity(rig: Rig) -> int:
    return [e.sessions for e in rig.events if isinstance(e, Capacity)][-1]


def calls(rig: Rig) -> int:
    return rig.backend.calls["denoise"]


def test_a_worker_that_was_starved_when_it_started_learns_what_it_can_serve() -> None:
    rig = idle(speed=0.5)
    assert capacity(rig) == 1
    rig.backend.delay_s = delay_s(21.0)
    rig.run(2 * FIRST_S)
    assert capacity(rig) == FAST, "as if it had been measured so at first"
    rig.open()
    assert rig.session("s").pace.rate == 1.0, "and nobody expects slow motion of its first session"


def test_a_device_that_is_becoming_faster_is_watched_closely() -> None:
    rig = idle(speed=1.5)
    rig.run(300.0)
    rig.backend.delay_s = delay_s(10.5)
    rig.run(MOST_S + 1.0)
    assert capacity(rig) == 8
    rig.backend.delay_s = delay_s(21.0)
    rig.run(2 * FIRST_S)
    assert capacity(rig) == FAST


def test_so_does_one_that_was_starved_while_it_was_last_used() -> None:
    rig = idle(speed=21.0)
    rig.open()
    rig.backend.delay_s = delay_s(1.2)
    rig.run(60.0)
    assert capacity(rig) == 1
    rig.submit(Pause())
    rig.run(1.0)
    rig.backend.delay_s = delay_s(21.0)
    rig.run(2 * FIRST_S)
    assert capacity(rig) == FAST


def test_a_longer_time_does_not_count_and_neither_does_chance() -> None:
    rig = idle(speed=21.0)
    rig.backend.delay_s = delay_s(10.0)
    rig.run(300.0)
    assert capacity(rig) == FAST
    rig.backend.delay_s = delay_s(24.0)
    rig.run(300.0)
    assert capacity(rig) == FAST


def test_it_becomes_rare_and_takes_little_of_the_device() -> None:
    rig = idle(speed=21.0)
    before = calls(rig)
    rig.run(600.0)
    measured = (calls(rig) - before) / (SEGMENTS * STEPS)
    assert 600.0 / MOST_S <= measured <= 600.0 / MOST_S + 4
    rig = idle(speed=0.2)
    before, started_s, busy_s = calls(rig), rig.clock(), rig.engine.busy_s
    rig.run(3600.0)
    assert 0 < (calls(rig) - before) * rig.backend.delay_s <= 2 * SHARE * (rig.clock() - started_s)
    assert rig.engine.busy_s == busy_s, "no session has used it"


def test_work_comes_first_and_nobody_sees_what_was_measured() -> None:
    """A session that opens in the middle of a measurement gets the next turn."""
    rig, waited_s = idle(speed=0.1), 5.0 / STEPS / 0.1 * SEGMENT_S
    rig.clock.advance(MOST_S)
    assert rig.engine.step() is not None  # the first of its turns
    assert calls(rig) > 0
    rig.open()
    opened_s = rig.clock()
    rig.engine.step()
    rig.engine.step()
    assert rig.clock() - opened_s <= waited_s
    assert rig.run_segments(2)
    assert {e.session for e in rig.events if isinstance(e, SegmentReady)} == {"s"}


def test_while_sessions_play_nothing_else_is_measured() -> None:
    rig = idle(speed=21.0)
    rig.open()
    rig.run(121.0)
    made = len(rig.segments())
    first = TINY_SPEC.first_steps - STEPS
    assert rig.backend.batches[-(made * STEPS + first) :] == [1] * (made * STEPS + first)
    unseen = calls(rig) - made * STEPS - first
    assert unseen <= STEPS + (3 * STEPS + first) + 2 * STEPS, "that is the warm-up and a segment in progress"


def test_a_device_that_fails_while_idle_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    rig = idle(speed=21.0)
    rig.backend.fail_after = calls(rig)
    rig.run(100.0)
    failures = caplog.text.count("could not be measured")
    assert 1 <= failures <= 5
    rig.backend.fail_after = None
    rig.open()
    assert rig.run_segments(2)
