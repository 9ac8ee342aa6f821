"""RTCP: other implementations' packets can be read here, and ours can be read there."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest
from aiortc.rtp import (
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSrPacket,
    pack_remb_fci,
)

from server.webrtc.rtp import rtcp

SSRC = 0x12345678


def twcc(first: int, chunks: list[int], deltas: bytes, count: int, reference: int = 2) -> bytes:
    """Transport-wide feedback in the form that Chromium sends."""
    body = struct.pack("!IIHH", 9, SSRC, first, count) + reference.to_bytes(3, "big") + b"\x00"
    body += b"".join(chunk.to_bytes(2, "big") for chunk in chunks) + deltas
    body += bytes(-len(body) % 4)
    return struct.pack("!BBH", 0x8F, 205, len(body) // 4) + body


def test_a_report_on_our_stream_is_read_and_others_are_not() -> None:
    def info(ssrc: int, lost: int) -> RtcpReceiverInfo:
        return RtcpReceiverInfo(
            ssrc=ssrc, fraction_lost=lost, packets_lost=7, highest_sequence=1, jitter=90, lsr=5, dlsr=32768
        )

    data = bytes(RtcpRrPacket(ssrc=9, reports=[info(4, 255), info(SSRC, 64)]))
    (report,) = rtcp.read(data, SSRC).reports
    assert report == rtcp.ReceiverReport(lost=0.25, jitter=90, last_report=5, delay_s=0.5)


def test_lost_packets_are_read_across_the_wrap() -> None:
    lost = [65534, 65535, 0, 9]
    data = bytes(RtcpRtpfbPacket(fmt=1, ssrc=9, media_ssrc=SSRC, lost=[65534, 65535])) + bytes(
        RtcpRtpfbPacket(fmt=1, ssrc=9, media_ssrc=SSRC, lost=[0, 9])
    )
    assert rtcp.read(data, SSRC).lost == lost
    assert rtcp.read(data, SSRC + 1).lost == []


@pytest.mark.parametrize("fmt", [1, 4])
def test_keyframe_requests_are_received(fmt: int) -> None:
    fci = struct.pack("!IB3x", SSRC, 1) if fmt == 4 else b""
    data = bytes(RtcpPsfbPacket(fmt=fmt, ssrc=9, media_ssrc=SSRC if fmt == 1 else 0, fci=fci))
    assert rtcp.read(data, SSRC).keyframe
    assert not rtcp.read(data, SSRC + 1).keyframe


def test_a_remb_is_read() -> None:
    data = bytes(RtcpPsfbPacket(fmt=15, ssrc=9, media_ssrc=0, fci=pack_remb_fci(612_000, [SSRC])))
    assert rtcp.read(data, SSRC).remb_bps == pytest.approx(612_000, rel=0.001)


def test_arrivals_are_read_from_run_lengths() -> None:
    data = twcc(65535, [0x2000 | 3], bytes([4, 8, 12]), 3)
    expected: list[Any] = [
        (65535, pytest.approx(0.128 + 0.001)),
        (0, pytest.approx(0.128 + 0.003)),
        (1, pytest.approx(0.128 + 0.006)),
    ]
    assert rtcp.read(data, SSRC).arrivals == expected


def test_arrivals_are_read_from_symbols_with_losses_and_late_packets() -> None:
    two_bits = 0xC000 | 1 << 12 | 0 << 10 | 2 << 8
    data = twcc(7, [two_bits], bytes([4]) + struct.pack("!h", -8), 3)
    expected: list[Any] = [
        (7, pytest.approx(0.129)),
        (8, None),
        (9, pytest.approx(0.127)),
    ]
    assert rtcp.read(data, SSRC).arrivals == expected
    one_bit = 0x8000 | 1 << 13 | 1 << 11
    data = twcc(7, [one_bit], bytes([4, 4]), 3)
    assert [at is not None for _, at in rtcp.read(data, SSRC).arrivals] == [True, False, True]


def test_damaged_feedback_is_skipped_and_the_rest_is_read() -> None:
    pli = bytes(RtcpPsfbPacket(fmt=1, ssrc=9, media_ssrc=SSRC))
    broken = twcc(7, [0x2000 | 8000], b"", 8000)
    assert rtcp.read(broken + pli, SSRC).keyframe
    for length in range(60):
        rtcp.read(twcc(7, [0x2000 | 3], bytes(3), 3)[:length], SSRC)
        rtcp.read(bytes([0x8F, 205]) + os.urandom(length), SSRC)


def test_our_report_is_read_by_others() -> None:
    data, mark = rtcp.sender_report(SSRC, 1_700_000_000.5, 90_000, 17, 2**32 + 5, "psistream")
    report, description = RtcpPacket.parse(data)
    assert isinstance(report, RtcpSrPacket)
    assert isinstance(description, RtcpSdesPacket)
    info = report.sender_info
    assert (info.rtp_timestamp, info.packet_count, info.octet_count) == (90_000, 17, 5)
    assert info.ntp_timestamp >> 16 & 0xFFFFFFFF == mark
    assert (info.ntp_timestamp >> 32) - rtcp.NTP_EPOCH_S == 1_700_000_000
    assert description.chunks[0].items == [(1, b"psistream")]


def test_our_bye_is_read_by_others() -> None:
    (bye,) = RtcpPacket.parse(rtcp.bye(SSRC))
    assert bye == RtcpByePacket(sources=[SSRC])
