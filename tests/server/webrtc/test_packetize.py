"""Packetizing: complete frames come out at the other end, and no packet is too large for a tunnel."""

from __future__ import annotations

import pytest
from aiortc.codecs.h264 import h264_depayload
from aiortc.codecs.vpx import VpxPayloadDescriptor, vp8_depayload

from server.codecs import CODECS
from server.webrtc.rtp.packetize import PAYLOAD_MAX, h264, packetize, vp8

START = {"vp8": b"", "h264": b"\x00\x00\x01\x65", "vp9": b"", "av1": b"\x30"}
PARAMETERS = b"\x00\x00\x00\x01\x67\x42\x00\x0a" + b"\x00\x00\x00\x01\x68\xce\x38\x80"


@pytest.mark.parametrize("size", [1, PAYLOAD_MAX - 4, PAYLOAD_MAX - 3, 20_000])
def test_a_vp8_frame_comes_out_whole(size: int) -> None:
    frame = (bytes(range(256)) * 100)[:size]
    payloads = vp8(frame, 70_001)
    assert b"".join(vp8_depayload(p) for p in payloads) == frame
    assert all(len(p) <= PAYLOAD_MAX for p in payloads)
    heads = [VpxPayloadDescriptor.parse(p)[0] for p in payloads]
    assert [h.partition_start for h in heads] == [1] + [0] * (len(payloads) - 1)
    assert {h.picture_id for h in heads} == {70_001 % 32768}


@pytest.mark.parametrize("size", [40, PAYLOAD_MAX - 1, PAYLOAD_MAX, PAYLOAD_MAX + 1, 3 * PAYLOAD_MAX])
def test_an_h264_frame_comes_out_whole(size: int) -> None:
    stream = PARAMETERS + b"\x00\x00\x01\x65" + b"\x88" * size
    payloads = h264(stream)
    whole = b"".join(h264_depayload(p) for p in payloads)
    assert whole.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01") == stream.replace(
        b"\x00\x00\x00\x01", b"\x00\x00\x01"
    )
    assert all(len(p) <= PAYLOAD_MAX for p in payloads)


def test_parameters_and_a_small_picture_travel_together() -> None:
    assert len(h264(PARAMETERS + b"\x00\x00\x01\x65" + b"\x88" * 100)) == 1


@pytest.mark.parametrize("codec", CODECS)
def test_a_packet_on_the_wire_fits_the_smallest_ipv6_path(codec: str) -> None:
    """WireGuard, Tailscale and some mobile networks carry 1280 bytes and silently drop larger packets."""
    rtp, srtp, udp, ipv6 = 12 + 4 + 24 + 2, 16, 8, 40
    largest = max(map(len, packetize(codec, START[codec] + b"\x88" * 9000, 1)))
    assert largest + rtp + srtp + udp + ipv6 <= 1280
