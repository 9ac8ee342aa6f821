"""VP9 and AV1 in RTP: an encoder's output passes through a receiver's parser and decodes."""

from __future__ import annotations

import av
import numpy as np
import pytest

from engine.videofile.decode import decoder
from server.codecs import Codec
from server.webrtc.rtp.av1 import av1, obus
from server.webrtc.rtp.packetize import PAYLOAD_MAX, packetize
from server.webrtc.rtp.vp9 import keyframe_size, vp9
from server.worker.encoder import Encoded, ToYuv, VideoEncoder
from tests.rigs.server import depayload


def encoded(codec: Codec, count: int = 6) -> list[Encoded]:
    """Frames of noise whose keyframes take several packets; the fourth frame is a requested keyframe."""
    noise = np.random.default_rng(1).integers(0, 255, (96, 200, 3), np.uint8)
    to_yuv, encoder = ToYuv(2), VideoEncoder(codec, 320, 192, 16, 900_000)
    found = []
    for i in range(count):
        frame = to_yuv(np.ascontiguousarray(noise[:, i : i + 160]))
        made = encoder.encode(frame, i * 5625, keyframe=i == 3)
        assert made is not None
        found.append(made)
    encoder.close()
    return found


def pictures(codec: Codec, frames: list[bytes]) -> int:
    context = decoder(codec)
    return sum(len(context.decode(av.Packet(frame))) for frame in frames)


def test_vp9_comes_out_whole_with_its_frame_references() -> None:
    frames, whole = encoded("vp9"), []
    for number, frame in enumerate(frames, 32_766):
        parsed = [depayload.vp9(p) for p in packetize("vp9", frame.data, number)]
        assert len(parsed) > 1 or not frame.keyframe
        assert {p.picture_id for p in parsed} == {number % 32_768}
        assert {p.predicted for p in parsed} == {not frame.keyframe}
        assert [p.begins for p in parsed] == [True] + [False] * (len(parsed) - 1)
        assert [p.ends for p in parsed] == [False] * (len(parsed) - 1) + [True]
        told = parsed[0].size, parsed[0].group
        assert told == (((320, 192), [(1,)]) if frame.keyframe else (None, None))
        whole.append(b"".join(p.data for p in parsed))
    assert whole == [frame.data for frame in frames]
    assert pictures("vp9", whole) == len(frames)


def test_av1_comes_out_whole_without_delimiters_and_sizes() -> None:
    frames, whole = encoded("av1"), []
    for frame in frames:
        payloads = packetize("av1", frame.data, 0)
        assert len(payloads) > 1 or not frame.keyframe
        parsed = depayload.av1(payloads)
        assert parsed.new_sequence == frame.keyframe
        whole.append(depayload.temporal_unit(parsed.obus))
    assert whole == [frame.data for frame in frames]
    assert pictures("av1", whole) == len(frames)


@pytest.mark.parametrize("size", [1, 2, PAYLOAD_MAX - 4, PAYLOAD_MAX - 3, PAYLOAD_MAX - 2, PAYLOAD_MAX, 5000])
@pytest.mark.parametrize("before", [0, 1, PAYLOAD_MAX - 30, PAYLOAD_MAX - 4, 3000])
def test_av1_units_of_any_size_fit_their_packets(size: int, before: int) -> None:
    """Every possible split of a unit at the end of a packet."""
    units = [bytes([6 << 3]) + bytes([7]) * before, bytes([1 << 3]), bytes([6 << 3]) + bytes([9]) * size]
    payloads = av1(depayload.temporal_unit(units), PAYLOAD_MAX)
    assert depayload.av1(payloads).obus == units
    assert max(map(len, payloads)) <= PAYLOAD_MAX


def test_many_small_av1_units_share_a_packet() -> None:
    units = [bytes([6 << 3]) + bytes([n]) for n in range(9)]
    payloads = av1(depayload.temporal_unit(units), PAYLOAD_MAX)
    assert len(payloads) == 1
    assert depayload.av1(payloads).obus == units


@pytest.mark.parametrize("size", [10, PAYLOAD_MAX - 3, PAYLOAD_MAX - 2, 4000])
def test_vp9_frames_of_any_size_fit_their_packets(size: int) -> None:
    data = b"\x86" + bytes(size - 1)
    payloads = vp9(data, 1, PAYLOAD_MAX)
    assert b"".join(depayload.vp9(p).data for p in payloads) == data
    assert max(map(len, payloads)) <= PAYLOAD_MAX


@pytest.mark.parametrize("data", [b"", b"\x12", b"\x12\x00\x0a", b"\x0a\xff\xff", b"\x32\x80\x80\x80"])
def test_broken_frames_raise_no_error(data: bytes) -> None:
    """Only a broken encoder produces this; the gateway must survive it."""
    assert b"".join(obus(data)) == b""
    assert keyframe_size(data) is None
