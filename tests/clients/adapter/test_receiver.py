"""The viewer's jitter buffer: complete frames at once, and no waiting for a packet that is lost for good."""

from __future__ import annotations

import aioice.ice
import pytest
from aiortc.rtp import RtpPacket

from clients.adapter import receiver
from clients.adapter.receiver import DECODE_NOT, EncodedFrame, TappedBuffer, begins

KEY, DELTA = b"\x10\x02\x00\x9d\x01\x2a" + b"k" * 20, b"\x11" + b"d" * 20


class Stage:
    """A buffer that gets 16 frames per second, one packet each, and the frames that came out."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.seen: list[EncodedFrame] = []
        self.asked: list[float] = []
        self.buffer = TappedBuffer(self.seen.append, clock=lambda: self.now_s)

    def take(self, frame: int, data: bytes = DELTA) -> None:
        packet = RtpPacket(97, 1, frame % 65536, frame * 5625)
        packet._data = data  # type: ignore[attr-defined]
        wanted, _ = self.buffer.add(packet)
        if wanted:
            self.asked.append(self.now_s)
        self.now_s += 1 / 16

    @property
    def frames(self) -> list[int]:
        return [encoded.rtp_timestamp // 5625 for encoded in self.seen]


def test_a_frame_is_complete_at_its_marker() -> None:
    stage = Stage()
    stage.take(0, KEY)
    stage.take(1)
    assert stage.frames == [0, 1]


def test_a_late_packet_does_not_block_the_buffer() -> None:
    stage = Stage()
    for frame in (0, 1, 3, 4, 2, 5):
        stage.take(frame, KEY if frame == 0 else DELTA)
    stage.take(6)
    assert stage.frames[:3] == [0, 1, 2]
    assert stage.asked == []


def test_after_a_lost_packet_playback_continues_at_a_keyframe() -> None:
    """aiortc alone waits for 512 more packets, which is half a minute at 16 per second."""
    stage = Stage()
    for frame in (0, 1, *range(3, 40)):
        stage.take(frame, KEY if frame in (0, 30) else DELTA)
    assert stage.frames == [0, 1, *range(30, 40)]
    assert 1 <= len(stage.asked) <= 4


def test_a_frame_that_need_not_be_decoded_goes_no_further() -> None:
    seen: list[EncodedFrame] = []

    def keep(frame: EncodedFrame) -> object:
        seen.append(frame)
        return DECODE_NOT

    buffer = TappedBuffer(keep)
    for number in range(3):
        packet = RtpPacket(97, 1, number, number * 5625)
        packet._data = KEY if number == 0 else DELTA  # type: ignore[attr-defined]
        assert buffer.add(packet) == (False, None)
    assert [frame.rtp_timestamp // 5625 for frame in seen] == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "whether"),
    [
        (KEY, True),
        (DELTA, False),
        (b"\0\0\0\1\x67\x42", True),
        (b"\0\0\0\1\x65\x88", True),
        (b"\0\0\0\1\x41\x9a", False),
        (b"", False),
    ],
)
def test_keyframes_are_recognised(data: bytes, whether: bool) -> None:
    assert begins(data) == whether


@pytest.mark.parametrize(
    ("own", "all_"),
    [
        ([], ["127.0.0.1", "::1"]),
        (["192.0.2.7"], ["192.0.2.7", "::1"]),
        (["2001:db8::7"], ["2001:db8::7", "127.0.0.1"]),
        (["192.0.2.7", "2001:db8::7"], ["192.0.2.7", "2001:db8::7"]),
    ],
)
def test_a_server_on_loopback_is_reached_from_a_machine_without_that_kind_of_address(
    own: list[str], all_: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--host ::1` could not be watched from the same machine."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", None)  # so that it is put back
    receiver.allow_loopback(lambda use_ipv4, use_ipv6: list(own))
    assert aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True) == all_
