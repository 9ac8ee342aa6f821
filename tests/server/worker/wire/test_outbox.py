"""What waits for a peer: two lanes, order within a session, and video that gives way."""

from __future__ import annotations

import pytest

from server.worker.wire.frames import GREETING_BYTES, HEAD, PIECE, Joiner, NotFrames
from server.worker.wire.outbox import LATE_S, OTHER_BYTES, VIDEO_BYTES, Overfull, WireOutbox
from tests.rigs.engine.fakes import ManualClock

LARGE = b"L" * (3 * PIECE + 5)


def drained(box: WireOutbox) -> list[bytes]:
    """The messages in the order in which they are complete at the other end."""
    joiner, found = Joiner(), list[bytes]()
    joiner.trust(1 << 20)
    while chunk := box.next():
        found += joiner.feed(chunk)
    return found


def test_a_snapshot_never_delays_video() -> None:
    box = WireOutbox(ManualClock())
    box.put(LARGE)
    joiner, seen = Joiner(), list[bytes]()
    joiner.trust(1 << 20)
    seen += joiner.feed(box.next())  # a piece of it is under way
    box.put_video(b"frame", "s vp8", keyframe=True)
    seen += joiner.feed(box.next())
    assert seen == [b"frame"]
    while chunk := box.next():
        seen += joiner.feed(chunk)
    assert seen == [b"frame", LARGE]


def test_orders_of_a_session_keep_their_order_and_others_do_not_wait() -> None:
    box = WireOutbox(ManualClock())
    box.put(LARGE, "a", ("a",))
    box.put(b"a1", "a", ("a",))
    box.put(b"b1", "b", ("b",))
    box.put(b"fork of a", "c", ("c", "a"))
    box.put(b"c1", "c", ("c",))
    assert drained(box) == [b"b1", LARGE, b"a1", b"fork of a", b"c1"]
    box.put(b"a2", "a", ("a",))
    assert drained(box) == [b"a2"]
    assert len(box) == 0


def test_late_video_is_dropped_up_to_the_next_keyframe_and_nothing_else() -> None:
    clock = ManualClock()
    box = WireOutbox(clock)
    assert box.put_video(b"k0", "s vp8", keyframe=True)
    assert box.put_video(b"t0", "t vp8", keyframe=False)
    box.put(b"receipt")
    clock.advance(LATE_S + 0.01)
    assert not box.put_video(b"d1", "s vp8", keyframe=False)  # a keyframe should be asked for, once
    assert box.put_video(b"d2", "s vp8", keyframe=False)
    assert box.put_video(b"k3", "s vp8", keyframe=True)
    assert box.put_video(b"d4", "s vp8", keyframe=False)
    assert not box.put_video(b"t1", "t vp8", keyframe=False)
    assert drained(box) == [b"receipt", b"k3", b"d4"]
    assert box.dropped == 5


def test_a_frame_that_was_sent_in_part_is_completed() -> None:
    clock = ManualClock()
    box = WireOutbox(clock)
    box.put_video(LARGE, "s vp8", keyframe=True)
    joiner = Joiner()
    joiner.trust(0)
    first = box.next()
    box.put_video(b"waits", "s vp8", keyframe=False)
    clock.advance(1.0)
    assert not box.put_video(b"next", "s vp8", keyframe=False)
    assert joiner.feed(first + box.next() + box.next() + box.next()) == [LARGE]


def test_its_memory_is_bounded() -> None:
    box = WireOutbox(ManualClock())
    for _ in range(2 * VIDEO_BYTES // len(LARGE)):
        box.put_video(LARGE, "s vp8", keyframe=True)
    assert box._video_bytes <= VIDEO_BYTES
    for _ in range(OTHER_BYTES // PIECE):
        box.put(b"x" * PIECE)
    with pytest.raises(Overfull):
        box.put(b"x")


def frame(size: int, flags: int = 0, body: bytes = b"") -> bytes:
    return size.to_bytes(HEAD - 1, "big") + bytes([flags]) + body


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(PIECE + 1),
        frame(GREETING_BYTES + 1),
        frame(1, 1),  # nobody may use the bulk lane yet
        frame(0, 2),
        frame(0, 8),
        b"".join(frame(5000, 2, b"x" * 5000) for _ in range(5)),
    ],
)
def test_a_stranger_can_make_it_hold_very_little(data: bytes) -> None:
    with pytest.raises(NotFrames):
        Joiner().feed(data)


def test_frames_may_come_byte_by_byte() -> None:
    box = WireOutbox(ManualClock())
    box.put(b"one")
    box.put(b"two")
    joiner, data = Joiner(), box.next()
    assert [m for n in range(len(data)) for m in joiner.feed(data[n : n + 1])] == [b"one", b"two"]
