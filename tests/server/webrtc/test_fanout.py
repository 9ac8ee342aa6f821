"""Fan-out: viewers start and change rungs at a keyframe, and a slow viewer delays nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from server.webrtc.fanout import AT_ONCE, Fanout, Subscription
from server.webrtc.rtp.packetize import Payloads
from tests.rigs.server.server_rig import packet


class Hall:
    """A fan-out, its keyframe requests, and what its viewers received."""

    def __init__(self) -> None:
        self.counts: list[dict[str, int]] = []
        self.keyframes: list[str] = []
        self.fanout = Fanout(self.counts.append, self.keyframes.append)

    def join(self, codec: str = "vp8", rung: int = 0) -> tuple[Subscription, list[int]]:
        """A viewer that accepts everything, and the numbers of the frames that it received."""
        got: list[int] = []

        def take(frame: Payloads) -> bool:
            got.append(frame.timestamp // 5625)
            return True

        subscription = Subscription(codec, take, rung)
        assert self.fanout.join(subscription)
        return subscription, got

    def play(
        self, frames: Iterable[int], keyframes: tuple[int, ...] = (), rung: int = 0, codec: str = "vp8"
    ) -> None:
        for frame in frames:
            self.fanout.push(replace(packet(frame, keyframe=frame in keyframes, codec=codec), rung=rung))


def test_a_viewer_counts_at_once_and_requests_a_keyframe() -> None:
    hall = Hall()
    assert hall.fanout.count == 0
    hall.join()
    assert (hall.counts, hall.keyframes) == ([{"vp8": 1}], ["vp8"])


def test_a_late_viewer_starts_at_a_keyframe() -> None:
    """Earlier frames would be decoded to garbage, or not at all."""
    hall = Hall()
    viewer, got = hall.join()
    hall.play(range(3, 9), keyframes=(6,))
    assert got == [6, 7, 8]
    assert viewer.dropped == 0


def test_a_viewer_that_takes_nothing_skips_to_the_next_keyframe_and_the_others_get_everything() -> None:
    hall = Hall()
    _, fast = hall.join()
    room = [True]
    slow = Subscription("vp8", lambda frame: room[0])
    hall.fanout.join(slow)
    hall.play(range(3), keyframes=(0,))
    room[0] = False
    hall.play(range(3, 5))
    room[0] = True
    hall.play(range(5, 10), keyframes=(8,))
    assert fast == list(range(10))
    assert (slow.sent, slow.dropped) == (5, 5)
    assert hall.keyframes == ["vp8", "vp8", "vp8"]  # two joined, and one had to skip


def test_viewers_are_counted_per_codec_and_rung() -> None:
    hall = Hall()
    _, vp8 = hall.join("vp8")
    _, low = hall.join("vp8", rung=2)
    _, h264 = hall.join("h264")
    assert hall.fanout.viewers == {"vp8": 1, "vp8/2": 1, "h264": 1}
    hall.play(range(1), keyframes=(0,), codec="h264")
    hall.play(range(2), keyframes=(0,), rung=2)
    assert (vp8, low, h264) == ([], [0, 1], [0])


def test_a_step_up_happens_at_the_new_rungs_keyframe_without_a_gap() -> None:
    hall = Hall()
    viewer, got = hall.join(rung=1)
    hall.play(range(2), keyframes=(0,), rung=1)
    hall.fanout.move(viewer, 0, at_once=False)
    assert hall.fanout.viewers == {"vp8": 1, "vp8/1": 1}
    assert hall.keyframes == ["vp8/1", "vp8"]
    hall.play(range(2, 3), rung=0)  # no keyframe yet
    hall.play(range(2, 3), rung=1)
    hall.play(range(3, 4), keyframes=(3,), rung=0)
    hall.play(range(3, 5), rung=1)
    hall.play(range(4, 6), rung=0)
    assert got == [0, 1, 2, 3, 4, 5]
    assert hall.fanout.viewers == {"vp8": 1}


def test_a_frame_is_not_shown_twice_if_the_new_rung_is_one_frame_late() -> None:
    hall = Hall()
    viewer, got = hall.join(rung=1)
    hall.play(range(2), keyframes=(0,), rung=1)
    hall.fanout.move(viewer, 0, at_once=False)
    hall.play(range(2, 3), rung=1)
    hall.play(range(2, 3), keyframes=(2,), rung=0)
    assert got == [0, 1, 2]
    assert hall.keyframes[-2:] == ["vp8", "vp8"]  # requested again
    hall.play(range(3, 4), keyframes=(3,), rung=0)
    assert got == [0, 1, 2, 3]


def test_an_immediate_step_down_sends_nothing_more_of_the_old_rung() -> None:
    hall = Hall()
    viewer, got = hall.join()
    hall.play(range(2), keyframes=(0,))
    hall.fanout.move(viewer, 2, at_once=True)
    hall.play(range(2, 4))
    assert hall.fanout.viewers == {"vp8/2": 1}
    hall.play(range(4, 6), keyframes=(4,), rung=2)
    assert got == [0, 1, 4, 5]


def test_a_packet_is_split_into_payloads_once_for_all_viewers() -> None:
    hall = Hall()
    seen: list[Payloads] = []

    def take(frame: Payloads) -> bool:
        seen.append(frame)
        return True

    for _ in range(3):
        hall.fanout.join(Subscription("vp8", take))
    assert hall.fanout.push(packet(0, keyframe=True)) == 3
    assert all(each.payloads is seen[0].payloads for each in seen)


async def test_many_viewers_are_served_in_turns_and_in_order() -> None:
    """Other work on the event loop must not wait until hundreds of viewers have their frame."""
    hall = Hall()
    got = [hall.join()[1] for _ in range(3 * AT_ONCE)]
    hall.play(range(3), keyframes=(0,))
    assert 0 < sum(map(len, got)) <= 3 * AT_ONCE
    for _ in range(20):
        await asyncio.sleep(0)
    assert got == [[0, 1, 2]] * (3 * AT_ONCE)


def test_picture_ids_rise_across_rungs() -> None:
    """A browser drops a frame whose id is below that of the previous one, even if they come from different
    rungs."""
    hall = Hall()
    ids: list[int] = []

    def take(frame: Payloads) -> bool:
        ids.append(int.from_bytes(frame.payloads[0][2:4], "big") & 0x7FFF)
        return True

    viewer = Subscription("vp8", take, 1)
    hall.fanout.join(viewer)
    hall.play(range(4), keyframes=(0,), rung=1)
    hall.fanout.move(viewer, 0, at_once=True)
    hall.play(range(4, 6), keyframes=(4,), rung=0)
    hall.fanout.move(viewer, 1, at_once=True)
    hall.play(range(6, 8), keyframes=(6,), rung=1)
    assert ids == sorted(set(ids))
    assert len(ids) == 8


def test_picture_ids_have_no_gaps_in_a_rung_that_skips_frames() -> None:
    """A browser assumes that a frame refers to the previous id, and waits forever for one that never existed.
    So the picture of a viewer on the lowest rung stalled while others watched a better one."""
    hall = Hall()
    ids: dict[int, list[int]] = {0: [], 3: []}

    def taking(rung: int) -> Subscription:
        def take(frame: Payloads) -> bool:
            ids[rung].append(int.from_bytes(frame.payloads[0][2:4], "big") & 0x7FFF)
            return True

        return Subscription("vp8", take, rung)

    for rung in ids:
        hall.fanout.join(taking(rung))
    for pts in range(16):
        if pts % 4 == 0:
            hall.play([pts], keyframes=(0,), rung=3)
        hall.play([pts], keyframes=(0, 8), rung=0)
    assert [b - a for a, b in pairwise(ids[3])] == [1, 1, 1]
    steps = [b - a for a, b in pairwise(ids[0])]
    assert steps[:7] + steps[8:] == [1] * 14
    assert steps[7] >= 1, "a keyframe may jump, upwards"


def test_leaving_counts_once() -> None:
    hall = Hall()
    viewer, _ = hall.join()
    hall.fanout.leave(viewer)
    hall.fanout.leave(viewer)
    assert hall.counts == [{"vp8": 1}, {}]


def test_the_end_of_a_session_ends_it_for_current_and_late_viewers() -> None:
    hall = Hall()
    hall.join()
    hall.fanout.close()
    assert not hall.fanout.join(Subscription("vp8", lambda frame: True))
    assert hall.fanout.push(packet(0, keyframe=True)) == 0
