"""Encoded frames → RTP payloads, once for all viewers of a rendition.

VP8 (RFC 7741) and H.264 (RFC 6184) are here, `vp9` and `av1` have files of their own.

An RTP packet has at most `PACKET_MAX` bytes. With the SRTP tag, UDP and IPv6 that is 1280, the minimum MTU of
IPv6, and often the maximum of tunnels such as WireGuard. This module knows no viewers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from server.webrtc.rtp.av1 import av1
from server.webrtc.rtp.vp9 import PICTURE_IDS, vp9

PACKET_MAX = 1200  # bytes of an RTP packet, the limit that browsers use as well
HEADER_MAX = 12 + 4 + 24 + 2  # RTP header, extensions, and the original sequence number in a retransmission
PAYLOAD_MAX = PACKET_MAX - HEADER_MAX
STAP_A, FU_A = 24, 28


class Payloads(NamedTuple):
    """One encoded frame, cut into RTP payloads. `timestamp` counts 90 kHz."""

    payloads: list[bytes]
    timestamp: int
    keyframe: bool
    data: bytes = b""  # the encoded frame


def packetize(codec: str, data: bytes, picture_id: int) -> list[bytes]:
    """The RTP payloads of one frame. `picture_id` rises by one within a rendition, except at keyframes."""
    match codec:
        case "vp8":
            return vp8(data, picture_id)
        case "vp9":
            return vp9(data, picture_id, PAYLOAD_MAX)
        case "av1":
            return av1(data, PAYLOAD_MAX)
        case _:
            return h264(data)


def vp8(data: bytes, picture_id: int) -> list[bytes]:
    number = (0x8000 | picture_id % PICTURE_IDS).to_bytes(2, "big")
    size = PAYLOAD_MAX - 4
    return [
        (b"\x80" if start else b"\x90") + b"\x80" + number + data[start : start + size]
        for start in range(0, len(data), size)
    ]


def h264(data: bytes) -> list[bytes]:
    """`data` is Annex B. Small units are combined (STAP-A), large ones are fragmented (FU-A)."""
    payloads: list[bytes] = []
    together: list[bytes] = []

    def flush() -> None:
        if len(together) == 1:
            payloads.append(together[0])
        elif together:
            importance = max(unit[0] & 0x60 for unit in together)
            parts = b"".join(len(unit).to_bytes(2, "big") + unit for unit in together)
            payloads.append(bytes([STAP_A | importance]) + parts)
        together.clear()

    for unit in units(data):
        if 1 + sum(2 + len(u) for u in together) + 2 + len(unit) > PAYLOAD_MAX:
            flush()
        if len(unit) > PAYLOAD_MAX:
            payloads += fragments(unit)
        else:
            together.append(unit)
    flush()
    return payloads


def units(data: bytes) -> Iterator[bytes]:
    """The NAL units of an Annex B stream, without their start codes."""
    start = data.find(b"\x00\x00\x01")
    while start >= 0:
        end = data.find(b"\x00\x00\x01", start + 3)
        unit = data[start + 3 : end if end >= 0 else len(data)]
        if unit := unit.rstrip(b"\x00"):  # the zero of a four-byte start code
            yield unit
        start = end


def fragments(unit: bytes) -> Iterator[bytes]:
    indicator, kind = FU_A | unit[0] & 0x60, unit[0] & 0x1F
    size, end = PAYLOAD_MAX - 2, len(unit)
    for start in range(1, end, size):
        flags = (0x80 if start == 1 else 0) | (0x40 if start + size >= end else 0)
        yield bytes([indicator, flags | kind]) + unit[start : start + size]
