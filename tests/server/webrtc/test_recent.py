"""The last minute of a session: what is kept, what is dropped, and where a clip starts."""

from __future__ import annotations

from server.webrtc.recent import CLOCK_RATE, KEPT_S, KEYFRAME_EVERY_S, MAX_BYTES, Frame, Recent

STEP = CLOCK_RATE // 10


def played(frames: range, keyframes_every: int, size: int = 10) -> tuple[Recent, list[int]]:
    """Ten frames per second; also the numbers of the frames after which a keyframe was requested."""
    recent = Recent()
    recent.keep("vp8")
    asked = [i for i in frames if recent.add(Frame("vp8", i * STEP, i % keyframes_every == 0, bytes(size)))]
    return recent, asked


def numbers(frames: list[Frame]) -> list[int]:
    return [frame.pts_90k // STEP for frame in frames]


def test_a_clip_starts_at_the_keyframe_before_the_requested_time() -> None:
    recent, _ = played(range(301), 50)
    assert numbers(recent.clip(12.0)) == list(range(150, 301))
    assert numbers(recent.clip(10.0))[0] == 200


def test_a_clip_of_a_young_session_is_everything_there_is() -> None:
    recent, _ = played(range(20), 50)
    assert numbers(recent.clip(30.0)) == list(range(20))
    assert Recent().clip(30.0) == []


def test_frames_older_than_a_minute_are_dropped_in_whole_groups() -> None:
    recent, _ = played(range(2000), 50)
    kept = numbers(recent.clip(3600.0))
    assert kept[0] % 50 == 0
    assert KEPT_S <= (1999 - kept[0]) / 10 <= KEPT_S + 10


def test_recent_frames_start_at_a_keyframe() -> None:
    recent, _ = played(range(7, 30), 10)
    assert numbers(recent.clip(3600.0))[0] == 10


def test_a_keyframe_is_requested_once_if_none_came_for_long() -> None:
    _, asked = played(range(250), 10_000)
    assert [a / 10 for a in asked] == [KEYFRAME_EVERY_S + 0.1, 2 * KEYFRAME_EVERY_S + 0.2]


def test_renditions_are_not_mixed() -> None:
    recent, _ = played(range(30), 10)
    recent.add(Frame("vp8/1", 31 * STEP, True, b"low"))
    assert len(recent.clip(60)) == 30
    recent.keep("vp8/1")
    assert recent.clip(60) == []
    recent.add(Frame("vp8/1", 32 * STEP, True, b"low"))
    assert [f.data for f in recent.clip(60)] == [b"low"]


def test_memory_is_bounded_whatever_the_rate() -> None:
    recent, _ = played(range(60), 10_000, size=MAX_BYTES // 50)
    assert sum(len(f.data) for f in recent.clip(3600)) <= MAX_BYTES
