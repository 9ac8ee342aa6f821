"""Playout on a slow device: frames are spaced by the rate, and stalls are announced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from engine.types import Receipt, SegmentAwaited, SegmentReady, Stall
from server.config import MediaConfig
from server.worker.messages.events import Packet, SegmentStats, Stalled
from server.worker.playout import Playout
from server.worker.stall import StallTracker, Upcoming
from server.worker.stream import Cue, Timing, schedule

FPS = 50


def segment(number: int, due_s: float, rate: float = 1.0, frames: int = 4) -> SegmentReady:
    pictures = np.full((frames, 32, 32, 3), 40 * number % 255, np.uint8)
    return SegmentReady("s", 0, number, number * frames, due_s, pictures, speed=2 * rate, rate=rate)


# ---- slow motion ----


def test_frames_of_a_slow_segment_are_evenly_spaced_and_the_next_one_follows_without_a_gap() -> None:
    cues: list[Cue] = []
    due_s = 10.0
    for number, rate in enumerate((0.5, 0.4, 1.0)):
        cues, _ = schedule(cues, segment(number, due_s, rate), FPS, 8)
        due_s += 4 / FPS / rate
    apart_s = [b.due_s - a.due_s for a, b in pairwise(cues)]
    assert apart_s == pytest.approx([0.04] * 4 + [0.05] * 4 + [0.02] * 3)
    assert [c.for_s for c in cues] == pytest.approx([0.04] * 4 + [0.05] * 4 + [0.02] * 4)


def test_a_receipt_names_the_time_of_a_frame_in_slow_motion() -> None:
    timing = Timing(FPS)
    timing.set_running("s", watched=True)
    timing.segment(segment(2, 10.0, rate=0.5))
    assert timing.due_s(Receipt("s", "c", "applied", 2, 11)) == pytest.approx(10.0 + 3 * 0.04)


# ---- what is told of a picture that stands ----


def test_a_short_stall_is_not_reported() -> None:
    tracker = StallTracker(end_s=10.0, heard_s=9.0)
    assert tracker.report_at_s(Upcoming(10.9, 0.5, 0.48)) is None
    assert tracker.report_at_s(None) is None


def test_a_stall_is_reported_once_the_last_frame_has_ended() -> None:
    tracker, awaited = StallTracker(end_s=10.0, heard_s=9.0), Upcoming(40.0, 0.04, 0.2)
    assert tracker.report_at_s(awaited) == 10.0
    assert tracker.report(awaited, 10.0) == Stall(0.04, 0.2, 30.0)
    assert tracker.report_at_s(awaited) is None
    assert tracker.showed(16.0)
    assert not tracker.showed(22.0)


def test_after_a_pause_a_stall_counts_from_the_resumption() -> None:
    tracker = StallTracker(end_s=10.0, heard_s=500.0)
    assert tracker.report_at_s(Upcoming(500.5, 0.9, 1.0)) is None
    assert tracker.report_at_s(Upcoming(530.0, 0.04, 0.2)) == 500.0


def test_a_changed_or_cancelled_expectation_is_reported() -> None:
    tracker = StallTracker(end_s=10.0, heard_s=9.0)
    tracker.report(Upcoming(40.0, 0.04, 0.2), 10.0)
    tracker.heard_s = 20.0
    assert tracker.report_at_s(Upcoming(40.3, 0.04, 0.2)) is None
    assert tracker.report_at_s(Upcoming(43.0, 0.04, 0.2)) == 20.0
    assert tracker.report(Upcoming(43.0, 0.04, 0.2), 50.0) == Stall(0.04, 0.2, 0.0)  # overdue
    assert tracker.report_at_s(None) == 20.0
    assert tracker.report(None, 51.0) is None
    assert tracker.report_at_s(None) is None


# ---- the thread ----


class Stage:
    """A running playout and what it emitted."""

    def __init__(self) -> None:
        self.events: list[Packet | SegmentStats | Stalled] = []
        self.came = threading.Condition()
        media = MediaConfig(upscale=1, keyframe_gap_s=0.1, still_after_s=30.0, late_limit_s=5.0)
        self.playout = Playout(media, 32, 32, FPS, self._emit, time.monotonic)
        self.playout.start()
        self.playout.open("s")
        self.playout.set_viewers("s", {"vp8": 1})

    def _emit(self, event: Packet | SegmentStats | Stalled) -> None:
        with self.came:
            self.events.append(event)
            self.came.notify_all()

    def stalls(self) -> list[Stall | None]:
        return [e.stall for e in self.events if isinstance(e, Stalled)]

    def packets(self) -> list[Packet]:
        return [e for e in self.events if isinstance(e, Packet)]

    def wait(self, true: Callable[[], object]) -> None:
        with self.came:
            assert self.came.wait_for(true, 20.0), self.events


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as stage:
        yield stage


@contextmanager
def staged() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.playout.close()


def test_media_time_runs_on_evenly_in_slow_motion(stage: Stage) -> None:
    start_s = time.monotonic() + 0.05
    stage.playout.add(segment(0, start_s, rate=0.5))
    stage.playout.add(segment(1, start_s + 8 / FPS, rate=0.5))
    stage.wait(lambda: len(stage.packets()) >= 8)
    times = [p.pts_90k for p in stage.packets()]
    assert [p.frame for p in stage.packets()] == list(range(8))
    assert all(abs(b - a - 3600) <= 1 for a, b in pairwise(times))
    stats = [e for e in stage.events if isinstance(e, SegmentStats)]
    assert {(s.speed, s.rate) for s in stats} == {(1.0, 0.5)}
    assert stage.stalls() == []


def test_a_stall_is_reported_once_and_so_is_its_end(stage: Stage) -> None:
    stage.playout.add(segment(0, time.monotonic()))
    stage.playout.expect(SegmentAwaited("s", time.monotonic() + 60.0, 0.04, 0.2))
    stage.wait(stage.stalls)
    before = stage.events[: stage.events.index(Stalled("s", stage.stalls()[0]))]
    shown = [e.frame for e in before if isinstance(e, Packet)]
    assert shown == [0, 1, 2, 3]  # and not before the last frame
    buffering = stage.stalls()[0]
    assert buffering is not None
    assert (buffering.speed, buffering.rate) == (0.04, 0.2)
    assert 50.0 < buffering.resumes_in_s <= 60.0
    stage.playout.add(segment(1, time.monotonic(), rate=0.2))
    stage.wait(lambda: stage.stalls()[-1] is None)
    assert len(stage.stalls()) == 2


def test_a_stall_to_collect_segments_is_reported(stage: Stage) -> None:
    stage.playout.add(segment(0, time.monotonic()))
    stage.wait(lambda: len(stage.packets()) == 4)
    stage.playout.add(segment(1, time.monotonic() + 1.5, rate=0.4))
    stage.playout.expect(SegmentAwaited("s", time.monotonic() + 99.0, 0.1, 0.4))  # the one after
    stage.wait(lambda: len(stage.stalls()) >= 2)
    stall, over = stage.stalls()[:2]
    assert over is None
    assert stall is not None
    assert stall.resumes_in_s <= 1.5


def test_a_stall_that_is_cancelled_is_taken_back(stage: Stage) -> None:
    stage.playout.expect(SegmentAwaited("s", time.monotonic() + 60.0, 0.04, 0.2))
    stage.wait(stage.stalls)
    stage.playout.expect(SegmentAwaited("s", None, 0.04, 0.2))
    stage.wait(lambda: stage.stalls()[-1] is None)
    stage.playout.expect(SegmentAwaited("gone", None, 0.04, 0.2))
