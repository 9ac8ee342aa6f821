"""A viewer's video without a connection: retransmissions within a budget, probes, copies, the end of an
outage."""

from __future__ import annotations

import struct
from dataclasses import replace

from aiortc.rtp import RtcpPsfbPacket, RtcpRtpfbPacket, RtpPacket

from server.ladder import ladder
from server.webrtc.fanout import Fanout
from server.webrtc.media import MediaStream
from server.webrtc.rtp.stream import Extensions
from server.webrtc.signalling.codecs import Sendable
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import packet
from tests.rigs.waiting import until

RATES = [rung.bitrate_bps for rung in ladder(900_000, 320, 192, 16)]
VP8 = Sendable("vp8", "96", "97", "VP8/90000", "", ())


class Stage:
    """A stream, what it sent, and the keyframes that its fan-out requested."""

    congested = False
    flushed = 0  # packets that have left

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sent: list[RtpPacket] = []
        self.rtcp: list[bytes] = []
        self.keyframes: list[str] = []
        self.told: list[int] = []
        self.fanout = Fanout(lambda viewers: None, self.keyframes.append)
        extensions = Extensions({"transport": 3}, "0")
        self.media = MediaStream(self.fanout, VP8, (1, 2), extensions, "name", RATES, self, self.clock)
        self.media.on_condition = lambda: self.told.append(self.media.condition.rung)
        self.media.open()

    def send_rtp(self, packet: bytes) -> None:
        self.sent.append(RtpPacket.parse(packet))

    def flush(self) -> None:
        self.flushed = len(self.sent)

    def send_rtcp(self, packet: bytes) -> None:
        self.rtcp.append(packet)

    def play(self, frame: int, size: int = 100, rung: int = 0, *, keyframe: bool = False) -> None:
        made = packet(frame, keyframe=keyframe)
        self.fanout.push(replace(made, data=b"\x10" * size, rung=rung))

    def nack(self, *numbers: int) -> None:
        self.media.heard(bytes(RtcpRtpfbPacket(fmt=1, ssrc=9, media_ssrc=1, lost=list(numbers))))

    @property
    def repeats(self) -> int:
        return sum(p.payload_type == 97 for p in self.sent)


async def test_a_lost_packet_is_repaired_once_per_round_trip() -> None:
    """A player repeats its request until the packet arrives; the answers must not fill the link."""
    stage = Stage()
    stage.play(0, keyframe=True)
    stage.clock.advance(0.5)
    number = stage.sent[0].sequence_number
    for _ in range(5):
        stage.nack(number)
    assert stage.repeats == 1
    stage.clock.advance(0.2)
    stage.nack(number)
    assert stage.repeats == 2
    stage.media.close()


async def test_on_a_lossy_link_a_repair_is_sent_twice() -> None:
    """A repair that was lost too took another round trip: the freezes that remained at 10 % of loss."""
    stage = Stage()
    stage.play(0, keyframe=True)
    stage.clock.advance(0.5)
    stage.media.link.loss = 0.1
    stage.nack(stage.sent[0].sequence_number)
    assert stage.repeats == 1
    await until(lambda: stage.repeats == 2, "the copy of the repair")
    stage.media.close()


async def test_repairs_have_a_budget() -> None:
    """A full link that is filled with retransmissions never recovers."""
    stage = Stage()
    for frame in range(60):
        stage.play(frame, 1000, keyframe=frame == 0)
        stage.clock.advance(0.001)
    stage.clock.advance(0.3)
    stage.nack(*[p.sequence_number for p in stage.sent])
    assert 10 < stage.repeats < 40
    stage.media.close()


async def test_a_request_for_a_keyframe_goes_to_the_rung_that_is_watched() -> None:
    stage = Stage()
    stage.play(0, keyframe=True)
    stage.media.heard(bytes(RtcpPsfbPacket(fmt=1, ssrc=9, media_ssrc=1)))
    assert stage.keyframes == ["vp8", "vp8"]
    stage.media.close()


async def test_a_link_that_fills_up_steps_down_at_once_and_the_viewer_is_told() -> None:
    stage = Stage()
    stage.play(0, keyframe=True)
    arrival = 0
    for frame in range(1, 40):
        stage.play(frame, 7000)
        stage.clock.advance(1 / 16)
        for _ in range(2):  # 7 packets come in while 2 go out
            body = struct.pack("!IIHH", 9, 1, arrival, 1) + (1 + frame).to_bytes(3, "big") + b"\x00"
            body += struct.pack("!HBx", 0x2001, 0)
            stage.media.heard(struct.pack("!BBH", 0x8F, 205, len(body) // 4) + body)
            arrival += 1
    assert stage.told
    assert stage.media.subscription.rung == stage.told[-1] > 0
    assert stage.keyframes[-1] == f"vp8/{stage.told[-1]}"
    stage.media.close()


async def test_on_a_lossy_link_every_packet_is_sent_several_times() -> None:
    stage = Stage()
    stage.media.control.copies = 2
    stage.play(0, 3000, keyframe=True)
    assert (len(stage.sent), stage.repeats) == (3, 0)
    await until(lambda: stage.repeats >= 6, "second and third copies")
    assert len(stage.sent) == 9
    stage.media.close()


async def test_a_packet_whose_copies_may_be_lost_too_is_sent_again_when_it_is_asked_for() -> None:
    """The first request was taken for one that the copies on their way would answer. Where they were lost,
    the picture stood for another round trip: a freeze of 0.3 s in ten seconds at 10 % of loss."""
    stage = Stage()
    stage.media.control.copies = 2
    stage.media.link.rtt_s = 0.1
    stage.play(0, keyframe=True)
    await until(lambda: stage.repeats == 2, "two copies")
    stage.clock.advance(0.06)
    stage.nack(stage.sent[0].sequence_number)
    assert stage.repeats == 3
    stage.media.close()


async def test_a_probe_fills_up_to_its_rate_with_what_the_viewer_drops() -> None:
    stage = Stage()
    stage.media.control.rung = stage.media.subscription.rung = stage.media.subscription.wanted = 1
    for frame in range(20):
        stage.play(frame, 3000, rung=1, keyframe=frame == 0)
        stage.clock.advance(1 / 16)
    assert stage.repeats == 0
    stage.media.control.probe_bps = 1.15 * RATES[0]
    stage.play(20, 3000, rung=1)
    assert 4 <= stage.repeats <= 6  # 3 kB are 405 kb/s, 7.7 kB would be the rate of the probe
    stage.media.close()


async def test_without_feedback_nothing_is_sent_until_a_keyframe_continues_it() -> None:
    stage = Stage()
    stage.play(0, keyframe=True)
    stage.media.suspend()
    stage.media.suspend()
    assert stage.fanout.count == 0
    stage.play(1)
    stage.media.resume()
    stage.media.resume()
    assert stage.fanout.count == 1
    assert stage.keyframes[-1] == "vp8"
    stage.play(2)
    stage.play(3, keyframe=True)
    assert len(stage.sent) == 2
    stage.media.close()


async def test_a_full_send_buffer_skips_to_the_next_keyframe() -> None:
    stage = Stage()
    stage.play(0, keyframe=True)
    stage.congested = True
    stage.play(1)
    stage.congested = False
    stage.play(2)
    stage.play(3, keyframe=True)
    assert len(stage.sent) == 2
    assert stage.media.subscription.dropped == 2
    stage.media.close()


async def test_reports_begin_with_the_first_packet_and_the_end_is_told() -> None:
    stage = Stage()
    assert stage.rtcp == []
    stage.play(0, keyframe=True)
    stage.media.close()
    stage.media.close()
    assert len(stage.rtcp) == 1  # a BYE
    stage.play(1, keyframe=True)
    assert len(stage.sent) == 1
