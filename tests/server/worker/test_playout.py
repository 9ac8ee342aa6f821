"""Playout: each frame at its time, encoded once, stale frames dropped, the last frame repeated for viewers
that join."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from engine.types import Discarded, SegmentReady
from server.config import MediaConfig
from server.ladder import Rung
from server.worker.encoder import VideoEncoder
from server.worker.messages.events import Packet, SegmentStats, Stalled
from server.worker.playout import Playout
from server.worker.stream import Cue, Rendition, schedule

FPS = 50  # high, so that tests are fast


def segment(number: int, due_s: float, epoch: int = 0, frames: int = 4) -> SegmentReady:
    pictures = np.full((frames, 32, 32, 3), 40 * number % 255, np.uint8)
    return SegmentReady("s", epoch, number, number * frames, due_s, pictures, {"total": 5.0})


def numbers(cues: list[Cue]) -> list[int]:
    return [c.segment.first_frame + c.index for c in cues]


# ---- the queue ----


def test_segments_queue_in_order() -> None:
    cues, dropped = schedule([], segment(0, 10.0), FPS, 8)
    cues, more = schedule(cues, segment(1, 10.08), FPS, 8)
    assert numbers(cues) == list(range(8))
    assert [c.due_s for c in cues] == pytest.approx([10 + i / FPS for i in range(8)])
    assert dropped == more == 0


def test_a_new_epoch_replaces_what_would_be_shown_after_it_begins() -> None:
    cues, _ = schedule([], segment(0, 10.0), FPS, 8)
    cues, dropped = schedule(cues, segment(1, 10.04, epoch=1), FPS, 8)
    assert numbers(cues) == [0, 1, 4, 5, 6, 7]
    assert dropped == 0  # they were invalid, not too many


def test_a_new_epoch_that_follows_drops_nothing() -> None:
    cues, _ = schedule([], segment(0, 10.0), FPS, 8)
    cues, dropped = schedule(cues, segment(1, 10.08, epoch=1), FPS, 8)
    assert numbers(cues) == list(range(8))
    assert dropped == 0


def test_the_queue_is_bounded_and_drops_the_oldest() -> None:
    cues: list[Cue] = []
    total = 0
    for i in range(5):
        cues, dropped = schedule(cues, segment(i, 10.0 + i * 0.08), FPS, 2)
        total += dropped
    assert numbers(cues) == list(range(12, 20))
    assert total == 12


# ---- the thread ----


class Stage:
    """A running playout and what it emitted."""

    def __init__(self, media: MediaConfig) -> None:
        self.events: list[Packet | SegmentStats | Stalled] = []
        self.came = threading.Condition()
        self.playout = Playout(media, 32, 32, FPS, self._emit, time.monotonic)
        self.playout.start()
        self.playout.open("s")

    def _emit(self, event: Packet | SegmentStats | Stalled) -> None:
        with self.came:
            self.events.append(event)
            self.came.notify_all()

    def packets(self, codec: str = "vp8") -> list[Packet]:
        return [e for e in self.events if isinstance(e, Packet) and e.codec == codec]

    def stats(self) -> list[SegmentStats]:
        return [e for e in self.events if isinstance(e, SegmentStats)]

    def wait(self, true: Callable[[], object], within_s: float = 20.0) -> None:
        with self.came:
            assert self.came.wait_for(true, within_s), self.events


@contextmanager
def staged(**changes: float) -> Iterator[Stage]:
    """The defaults are lenient, so that tests pass on a busy machine."""
    media = MediaConfig(upscale=1, keyframe_gap_s=0.1, still_after_s=30.0, late_limit_s=5.0)
    stage = Stage(replace(media, **changes))  # type: ignore[arg-type]
    yield stage
    stage.playout.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as stage:
        yield stage


def test_frames_are_sent_at_their_time_with_continuous_timestamps(stage: Stage) -> None:
    start_s = time.monotonic() + 0.05
    stage.playout.set_viewers("s", {"vp8": 1})
    for i in range(3):
        stage.playout.add(segment(i, start_s + i * 4 / FPS))
    stage.wait(lambda: len(stage.packets()) >= 12)
    took_s = time.monotonic() - start_s
    packets = stage.packets()[:12]
    assert [p.frame for p in packets] == list(range(12))
    assert [p.pts_90k for p in packets] == [i * 90_000 // FPS for i in range(12)]
    assert [p.keyframe for p in packets] == [True] + [False] * 11
    assert took_s > 11 / FPS - 0.02


def test_playout_that_moved_on_keeps_timestamps_in_step_with_the_clock(stage: Stage) -> None:
    """After a late segment, a receiver must see the pause in the timestamps, or its jitter buffer drifts."""
    now_s = time.monotonic() + 0.02
    stage.playout.set_viewers("s", {"vp8": 1})
    stage.playout.add(segment(0, now_s))
    stage.playout.add(segment(1, now_s + 0.1, epoch=0))
    stage.wait(lambda: len(stage.packets()) >= 8)
    times = [p.pts_90k for p in stage.packets()]
    assert times[4] == 9000
    assert times == sorted(set(times))


def test_a_session_is_encoded_once_per_codec_whoever_watches(stage: Stage) -> None:
    stage.playout.set_viewers("s", {"vp8": 5, "h264": 2})
    stage.playout.add(segment(0, time.monotonic()))
    stage.wait(lambda: len(stage.packets("h264")) >= 4)
    assert [p.frame for p in stage.packets("vp8")] == [0, 1, 2, 3]
    assert [p.frame for p in stage.packets("h264")] == [0, 1, 2, 3]


def test_without_viewers_nothing_is_encoded_but_figures_are_sent(stage: Stage) -> None:
    stage.playout.set_state_bytes("s", 1234)
    stage.playout.add(segment(0, time.monotonic()))
    stage.wait(stage.stats)
    assert not stage.packets()
    assert (stage.stats()[0].segment, stage.stats()[0].state_bytes) == (0, 1234)


def test_keyframe_requests_are_coalesced(stage: Stage) -> None:
    def keys() -> list[Packet]:
        return [p for p in stage.packets() if p.keyframe]

    stage.playout.set_viewers("s", {"vp8": 1})
    start_s = time.monotonic()
    for i in range(5):
        stage.playout.add(segment(i, start_s + i * 4 / FPS))
    for _ in range(20):
        stage.playout.request_keyframe("s", "vp8")
        time.sleep(0.01)
    stage.wait(lambda: len(keys()) >= 2)
    assert len(keys()) <= 2 + (time.monotonic() - start_s) / 0.1


def test_a_keyframe_is_due_when_requested_and_the_last_one_is_old_enough() -> None:
    rendition = Rendition(VideoEncoder("vp8", 32, 32, FPS, 900_000), Rung(900_000))
    assert rendition.key_due(10.0, gap_s=0.4)
    rendition.last_key_s = 10.0
    assert not rendition.key_due(10.3, gap_s=0.4)
    assert rendition.key_due(10.5, gap_s=0.4)
    rendition.key_wanted = False
    assert not rendition.key_due(99.0, gap_s=0.4)


def test_a_viewer_who_joins_a_stalled_session_gets_a_picture_at_once(stage: Stage) -> None:
    stage.playout.add(segment(0, time.monotonic()))
    stage.wait(stage.stats)
    time.sleep(5 / FPS)
    stage.playout.set_viewers("s", {"vp8": 1})
    stage.wait(lambda: stage.packets() and stage.packets()[-1].frame == 3)  # not after 30 s, by repetition
    assert stage.packets()[0].keyframe


def test_a_still_picture_is_repeated_at_intervals() -> None:
    with staged(still_after_s=0.15) as stage:
        stage.playout.set_viewers("s", {"vp8": 1})
        stage.playout.add(segment(0, time.monotonic()))
        stage.wait(lambda: len(stage.packets()) >= 6)
        times = [p.pts_90k for p in stage.packets()]
        assert [p.frame for p in stage.packets()][3:6] == [3, 3, 3]
        assert times[5] - times[4] > 0.14 * 90_000


def test_frames_that_are_too_late_are_dropped_and_counted() -> None:
    with staged(late_limit_s=10.0) as stage:
        stage.playout.set_viewers("s", {"vp8": 1})
        stage.playout.add(segment(0, time.monotonic()))
        stage.wait(lambda: len(stage.packets()) == 4)
        stage.playout.add(segment(1, time.monotonic() - 60.0))
        stage.playout.add(segment(2, time.monotonic() + 0.05))
        stage.wait(lambda: stage.stats()[-1].segment == 2)
        assert stage.stats()[-1].dropped_frames_total == 4
        assert not [p for p in stage.packets() if p.segment == 1]


def test_invalid_segments_are_never_shown_and_the_current_one_plays_to_its_end(stage: Stage) -> None:
    now_s = time.monotonic() + 0.02
    stage.playout.set_viewers("s", {"vp8": 1})
    for number in range(3):
        stage.playout.add(segment(number, now_s + number * 60.0))  # discarded long before, on any machine
    stage.wait(stage.packets)
    stage.playout.discard(Discarded("s", 1, 0))
    stage.playout.add(segment(3, now_s + 0.5))  # was being generated
    stage.playout.add(segment(3, now_s + 0.6, epoch=1))
    stage.wait(lambda: len(stage.packets()) >= 8)
    assert [p.frame for p in stage.packets()] == [0, 1, 2, 3, 12, 13, 14, 15]
    assert [p.epoch for p in stage.packets()] == [0] * 4 + [1] * 4
    assert stage.stats()[-1].dropped_frames_total == 0


def test_a_new_epoch_cuts_the_current_segment_short(stage: Stage) -> None:
    now_s = time.monotonic() + 0.02
    stage.playout.set_viewers("s", {"vp8": 1})
    stage.playout.add(segment(0, now_s, frames=500))
    stage.wait(stage.packets)
    stage.playout.discard(Discarded("s", 1, 0))
    stage.playout.add(segment(1, now_s + 0.25, epoch=1))
    stage.wait(lambda: len([p for p in stage.packets() if p.segment == 1]) >= 2)
    numbers = [p.segment for p in stage.packets()]
    assert numbers == sorted(numbers)
    assert numbers.count(0) < 500


def test_a_late_frame_is_better_than_none() -> None:
    with staged(late_limit_s=10.0) as stage:
        stage.playout.set_viewers("s", {"vp8": 1})
        stage.playout.add(segment(0, time.monotonic() - 60.0))
        stage.wait(stage.packets)
        assert stage.packets()[0].frame == 3


def test_a_session_that_is_gone_is_silent(stage: Stage) -> None:
    stage.playout.set_viewers("s", {"vp8": 1})
    stage.playout.forget("s")
    stage.playout.add(segment(0, time.monotonic()))
    stage.playout.request_keyframe("s", "vp8")
    time.sleep(0.05)
    assert not stage.events


def test_sessions_do_not_mix(stage: Stage) -> None:
    stage.playout.open("t")
    stage.playout.set_viewers("t", {"vp8": 1})
    stage.playout.add(segment(0, time.monotonic()))
    stage.wait(stage.stats)
    time.sleep(0.05)
    assert not stage.packets()


def test_a_frame_that_cannot_be_encoded_does_not_end_playout(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.playout.open("t")
    stage.playout.set_viewers("s", {"abacus": 1})
    stage.playout.set_viewers("t", {"vp8": 1})
    stage.playout.add(segment(0, time.monotonic()))
    stage.playout.add(replace(segment(0, time.monotonic() + 0.05), session="t"))
    stage.wait(lambda: len(stage.packets()) == 4)
    assert "session s: a frame could not be encoded" in caplog.text


def test_the_lowest_rung_skips_frames_but_never_a_keyframe() -> None:
    rendition = Rendition(VideoEncoder("vp8", 32, 32, FPS, 72_000), Rung(72_000, every=4))
    assert [rendition.skips(keyframe=False) for _ in range(8)] == [True, True, True, False] * 2
    assert not rendition.skips(keyframe=True)
    assert [rendition.skips(keyframe=False) for _ in range(4)] == [True, True, True, False]
