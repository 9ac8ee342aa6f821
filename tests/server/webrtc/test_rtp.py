"""A viewer's RTP stream: a player reads what was sent, also after a retransmission."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiortc.rtp import RtpPacket, unpack_header_extensions, unwrap_rtx

from server.webrtc.rtp.packetize import PACKET_MAX, PAYLOAD_MAX, Payloads
from server.webrtc.rtp.stream import BURST, HISTORY, RTX_AGE_S, Extensions, RtpStream

ALL = {"mid": 1, "send_time": 2, "transport": 3, "playout_delay": 4}


class Wire:
    """A stream, the packets it sent, and the work it scheduled for later."""

    def __init__(self, numbers: dict[str, int] | None = None, mid: str = "0", rtx: int | None = 97) -> None:
        self.now_s = 100.0
        self.sent: list[bytes] = []
        self.later: list[Callable[[], None]] = []
        self.stream = RtpStream(
            96,
            rtx,
            1,
            2,
            Extensions(ALL if numbers is None else numbers, mid),
            self.sent.append,
            lambda: self.now_s,
            lambda delay_s, what: self.later.append(what),
        )

    def send(self, *payloads: bytes, timestamp: int = 3000) -> None:
        self.stream.send(Payloads(list(payloads), timestamp, True))

    @property
    def packets(self) -> list[RtpPacket]:
        return [RtpPacket.parse(data) for data in self.sent]


def elements(data: bytes) -> dict[int, bytes]:
    profile, words = int.from_bytes(data[12:14], "big"), int.from_bytes(data[14:16], "big")
    return dict(unpack_header_extensions(profile, data[16 : 16 + 4 * words]))


def test_a_frame_is_numbered_and_its_last_packet_marked() -> None:
    wire = Wire()
    wire.send(b"one", b"two")
    wire.send(b"three", timestamp=8625)
    packets = wire.packets
    assert [p.payload for p in packets] == [b"one", b"two", b"three"]
    assert [p.marker for p in packets] == [0, 1, 1]
    assert [(p.sequence_number - packets[0].sequence_number) % 65536 for p in packets] == [0, 1, 2]
    assert [(p.timestamp - wire.stream.origin) % 2**32 for p in packets] == [3000, 3000, 8625]
    assert {(p.payload_type, p.ssrc) for p in packets} == {(96, 1)}


@pytest.mark.parametrize("number", [4, 14, 15, 200])
@pytest.mark.parametrize("mid", ["0", "a-mid-that-needs-a-long-header"])
def test_every_packet_has_the_extensions_that_were_agreed_on(number: int, mid: str) -> None:
    wire = Wire({**ALL, "playout_delay": number}, mid)
    wire.send(b"one", b"two")
    first, second = map(elements, wire.sent)
    assert first[1] == mid.encode()
    assert first[number] == b"\x00\x00\x00"
    assert int.from_bytes(second[3], "big") == int.from_bytes(first[3], "big") + 1
    assert int.from_bytes(first[2], "big") == int(100.0 * 2**18) & 0xFFFFFF
    assert [p.payload for p in wire.packets] == [b"one", b"two"]


def test_a_viewer_that_knows_no_extension_gets_none() -> None:
    wire = Wire({})
    wire.send(b"one")
    assert wire.sent[0][0] == 0x80
    assert wire.sent[0][12:] == b"one"


def test_the_largest_packet_keeps_within_the_limit_even_as_a_retransmission() -> None:
    wire = Wire(mid="0123456789abcdef"[:8])
    wire.send(bytes(PAYLOAD_MAX))
    wire.stream.repeat(wire.packets[0].sequence_number)
    assert max(map(len, wire.sent)) <= PACKET_MAX


def test_a_lost_packet_is_retransmitted_as_rtx() -> None:
    wire = Wire()
    wire.send(b"one", b"two")
    lost = wire.packets[1]
    assert wire.stream.repeat(lost.sequence_number) == len(wire.sent[2])
    again = wire.packets[2]
    assert (again.payload_type, again.ssrc) == (97, 2)
    whole = unwrap_rtx(again, payload_type=96, ssrc=1)
    assert (whole.sequence_number, whole.payload, whole.marker) == (lost.sequence_number, b"two", 1)
    assert elements(wire.sent[2])[3] != elements(wire.sent[1])[3]


def test_without_rtx_the_packet_itself_is_retransmitted() -> None:
    wire = Wire(rtx=None)
    wire.send(b"one")
    wire.stream.repeat(wire.packets[0].sequence_number)
    assert wire.packets[1].sequence_number == wire.packets[0].sequence_number
    assert not wire.stream.can_repeat


def test_packets_that_are_too_old_or_unknown_are_not_retransmitted() -> None:
    wire = Wire()
    wire.send(b"one")
    number = wire.packets[0].sequence_number
    assert wire.stream.repeat((number + 1) % 65536) == 0
    assert wire.stream.repeat((number + HISTORY) % 65536) == 0
    wire.now_s += RTX_AGE_S + 0.1
    assert wire.stream.repeat(number) == 0


def test_a_large_frame_is_spread_and_later_frames_wait_behind_it() -> None:
    wire = Wire()
    wire.send(*[bytes([i]) for i in range(30)])
    wire.send(b"next")
    assert len(wire.sent) == BURST
    while wire.later:
        wire.later.pop(0)()
    assert [p.payload for p in wire.packets] == [*(bytes([i]) for i in range(30)), b"next"]


def test_a_closed_stream_sends_nothing_more() -> None:
    wire = Wire()
    wire.send(*[b"x"] * 30)
    wire.stream.close()
    for each in wire.later:
        each()
    assert wire.stream.repeat(wire.packets[0].sequence_number) == 0
    assert len(wire.sent) == BURST
