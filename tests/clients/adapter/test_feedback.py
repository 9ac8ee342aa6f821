"""TWCC from our own viewer: the server's parser reads it."""

from __future__ import annotations

import pytest

from clients.adapter.feedback import NUMBER, packet, transport_number, with_feedback
from server.webrtc.rtp import rtcp
from server.webrtc.rtp.packetize import Payloads
from server.webrtc.rtp.stream import Extensions, RtpStream
from server.webrtc.signalling.offer import read_offer
from tests.rigs.server.server_rig import watcher


@pytest.mark.parametrize("first", [0, 65530])
def test_the_server_reads_when_each_packet_came(first: int) -> None:
    times = [10.0, None, 10.001, 10.2, 9.9, *[None] * 9, 11.5]
    read = rtcp.read(packet(1, 2, first, times, 3), 2).arrivals
    assert [number for number, _ in read] == [(first + i) % 65536 for i in range(len(times))]
    for (_, got), wanted in zip(read, times, strict=True):
        assert (got is None) == (wanted is None)
        if got is not None and wanted is not None:
            assert got == pytest.approx(wanted, abs=0.0003)


def test_the_number_is_found_among_the_other_extensions() -> None:
    sent: list[bytes] = []
    extensions = Extensions({"mid": 1, "send_time": 3, "transport": NUMBER, "playout_delay": 5}, "0")
    stream = RtpStream(96, 97, 1, 2, extensions, sent.append, lambda: 1.0, lambda delay, what: None)
    stream.send(Payloads([b"x" * 50, b"y"], 0, True))
    assert [transport_number(data) for data in sent] == [0, 1]
    bare = RtpStream(96, 97, 1, 2, Extensions({}, "0"), sent.append, lambda: 1.0, lambda delay, what: None)
    bare.send(Payloads([b"x" * 50], 0, True))
    assert transport_number(sent[-1]) is None


async def test_the_offer_names_the_feedback_for_each_codec() -> None:
    async with watcher() as viewer:
        offer = read_offer(with_feedback(await viewer.offer()).encode())
    assert all("transport-cc" in codec.feedback for codec in offer.codecs)
    assert any("transport-wide-cc" in value for value in offer.video.values("extmap"))
