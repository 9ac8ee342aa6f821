"""Fan-out: begin at a keyframe, bounded queues, and a slow viewer slows nobody."""

from __future__ import annotations

import asyncio

import pytest
from aiortc.mediastreams import MediaStreamError

from server.webrtc.adapter import Payloads
from server.webrtc.fanout import QUEUE, Fanout, PacketTrack
from tests.rigs.server_rig import packet


class Hall:
    """A fan-out and what it asked for."""

    def __init__(self) -> None:
        self.counts: list[dict[str, int]] = []
        self.keyframes: list[str] = []
        self.fanout = Fanout(self.counts.append, self.keyframes.append)

    async def join(self, codec: str = "vp8") -> tuple[PacketTrack, asyncio.Task[Payloads]]:
        """A track and its first read, under way."""
        track = self.fanout.track(codec)
        read = asyncio.get_running_loop().create_task(track.recv())
        await asyncio.sleep(0)
        return track, read

    def play(self, frames: range, keyframes: tuple[int, ...] = ()) -> None:
        for frame in frames:
            self.fanout.push(packet(frame, keyframe=frame in keyframes))


async def drain(track: PacketTrack) -> list[int]:
    """The frame numbers that wait in a track."""
    got = []
    while track._queue:
        got.append((await track.recv()).timestamp // 5625)
    return got


async def test_a_viewer_counts_from_its_first_read_and_asks_for_a_keyframe() -> None:
    hall = Hall()
    hall.fanout.track("vp8")
    assert hall.fanout.count == 0
    _, read = await hall.join()
    assert (hall.counts, hall.keyframes) == ([{"vp8": 1}], ["vp8"])
    read.cancel()


async def test_a_late_joiner_begins_at_a_keyframe() -> None:
    """Anything before it would be decoded into garbage, or not at all."""
    hall = Hall()
    track, read = await hall.join()
    hall.play(range(3, 9), keyframes=(6,))
    assert (await read).timestamp == 6 * 5625
    assert await drain(track) == [7, 8]
    assert track.dropped == 0


async def test_overflow_drops_to_the_next_keyframe_and_counts() -> None:
    hall = Hall()
    track, read = await hall.join()
    hall.play(range(1), keyframes=(0,))
    await read
    hall.play(range(1, 14), keyframes=(12,))  # the queue is full at 8, frame 9 overflows
    assert await drain(track) == [12, 13]
    assert track.dropped == QUEUE + 1 + 2  # what waited, what overflowed, and up to the keyframe
    assert hall.keyframes == ["vp8", "vp8"]  # at joining, and once to go on


async def test_overflow_at_a_keyframe_goes_on_with_it() -> None:
    hall = Hall()
    track, read = await hall.join()
    hall.play(range(1), keyframes=(0,))
    await read
    hall.play(range(1, 11), keyframes=(9,))
    assert await drain(track) == [9, 10]
    assert track.dropped == QUEUE


async def test_a_slow_viewer_drops_and_the_others_get_everything() -> None:
    hall = Hall()
    slow, slow_read = await hall.join()
    fast, fast_read = await hall.join()
    hall.play(range(1), keyframes=(0,))
    await slow_read
    await fast_read
    seen = []
    for frame in range(1, 60):
        hall.play(range(frame, frame + 1))
        seen += await drain(fast)
    assert seen == list(range(1, 60))
    assert fast.dropped == 0
    assert slow.dropped == 59
    assert len(slow._queue) <= QUEUE


async def test_a_packet_is_cut_into_payloads_once_for_all() -> None:
    hall = Hall()
    reads = [(await hall.join())[1] for _ in range(3)]
    assert hall.fanout.push(packet(0, keyframe=True)) == 3
    first, *others = [await read for read in reads]
    assert all(other.payloads is first.payloads for other in others)


async def test_codecs_have_viewers_of_their_own() -> None:
    hall = Hall()
    _, vp8 = await hall.join("vp8")
    _, h264 = await hall.join("h264")
    assert hall.fanout.viewers == {"vp8": 1, "h264": 1}
    assert hall.fanout.push(packet(0, keyframe=True, codec="h264")) == 1
    assert not vp8.done()
    vp8.cancel()
    h264.cancel()


async def test_leaving_ends_the_track_and_counts_once() -> None:
    hall = Hall()
    track, read = await hall.join()
    hall.fanout.leave(track)
    hall.fanout.leave(track)
    with pytest.raises(MediaStreamError):
        await read
    assert hall.counts == [{"vp8": 1}, {}]


async def test_the_end_of_a_session_ends_its_tracks_and_those_that_come_late() -> None:
    hall = Hall()
    _, read = await hall.join()
    late = hall.fanout.track("vp8")
    hall.fanout.close()
    for end in (read, late.recv()):
        with pytest.raises(MediaStreamError):
            await end
    assert hall.fanout.push(packet(0, keyframe=True)) == 0


async def test_the_first_frame_that_left_is_told_once() -> None:
    hall = Hall()
    track, read = await hall.join()
    told: list[int] = []
    track.on_sent = told.append
    hall.play(range(4, 7), keyframes=(4,))
    await read
    assert told == []
    await drain(track)
    assert told == [4 * 5625]
