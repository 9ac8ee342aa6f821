"""PyAV's software encoders, set up for low latency: one thread, no delayed frames, keyframes only on request.

One function per codec. The bitrate is constant over `VBV_S`, since a rung is chosen for what a link can
carry.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, cast

import av
from av.video.codeccontext import VideoCodecContext

from server.codecs import Codec

CLOCK_RATE = 90_000
TIME_BASE = Fraction(1, CLOCK_RATE)
NEVER = 1_000_000  # frames between keyframes that nobody requested
VBV_S = 0.25  # size of the rate-control buffer in seconds; it bounds the size of a keyframe
VBV_MS = int(1000 * VBV_S)
INTRA_PERCENT = "400"  # maximum size of a keyframe, in percent of a frame's share of the bitrate
SVT_PRESET = 10
H264_LEVELS = (  # level, macroblocks per second and per frame, kb/s
    (10, 1_485, 99, 64),
    (11, 3_000, 396, 192),
    (12, 6_000, 396, 384),
    (13, 11_880, 396, 768),
    (20, 11_880, 396, 2_000),
    (21, 19_800, 792, 4_000),
    (22, 20_250, 1_620, 4_000),
    (30, 40_500, 1_620, 10_000),
    (31, 108_000, 3_600, 14_000),
    (32, 216_000, 5_120, 20_000),
    (40, 245_760, 8_192, 20_000),
    (42, 522_240, 8_704, 50_000),
    (51, 983_040, 36_864, 240_000),
)
AV1_LEVELS = (  # seq_level_idx, pixels per frame and per second
    (0, 147_456, 4_423_680),
    (1, 278_784, 8_363_520),
    (4, 665_856, 19_975_680),
    (5, 1_065_024, 31_950_720),
    (8, 2_359_296, 70_778_880),
    (9, 2_359_296, 141_557_760),
    (12, 8_912_896, 267_386_880),
)


class PictureFormat(NamedTuple):
    """The format of a video to encode: size in pixels, frames per second, bits per second."""

    width: int
    height: int
    fps: int
    bitrate_bps: int


def software(codec: Codec, picture: PictureFormat) -> VideoCodecContext:
    """An encoder context that has not been opened yet."""
    return MAKERS[codec](picture)


def blank(name: str, picture: PictureFormat, pix_fmt: str = "yuv420p") -> VideoCodecContext:
    """A context with the settings that all encoders share. Raises ValueError if this PyAV lacks the
    encoder."""
    context = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
    context.width, context.height, context.pix_fmt = picture.width, picture.height, pix_fmt
    context.time_base, context.framerate = TIME_BASE, Fraction(picture.fps)
    context.gop_size = NEVER
    context.thread_count = 1
    return context


def h264_level(picture: PictureFormat) -> int:
    """The lowest level (31 means 3.1) whose limits this stream keeps: ITU-T H.264, table A-1."""
    blocks = -(-picture.width // 16) * -(-picture.height // 16)
    for level, blocks_per_s, blocks_per_frame, kbps in H264_LEVELS:
        fits = blocks <= blocks_per_frame and blocks * picture.fps <= blocks_per_s
        if fits and picture.bitrate_bps <= 1000 * kbps:
            return level
    return H264_LEVELS[-1][0]


def av1_level(picture: PictureFormat) -> int:
    """The lowest seq_level_idx (5 means 3.1) whose limits this stream keeps: AV1, annex A.3."""
    pixels = picture.width * picture.height
    for index, per_frame, per_s in AV1_LEVELS:
        if pixels <= per_frame and pixels * picture.fps <= per_s:
            return index
    return AV1_LEVELS[-1][0]


def _vp8(picture: PictureFormat) -> VideoCodecContext:
    return _vpx("libvpx", picture, {"cpu-used": "-6"})


def _vp9(picture: PictureFormat) -> VideoCodecContext:
    return _vpx("libvpx-vp9", picture, {"cpu-used": "8", "row-mt": "0", "aq-mode": "3"})


def _vpx(name: str, picture: PictureFormat, options: dict[str, str]) -> VideoCodecContext:
    context, bitrate_bps = blank(name, picture), picture.bitrate_bps
    context.bit_rate = bitrate_bps
    context.qmin, context.qmax = 2, 63  # the lowest rungs must keep their bitrate even in a busy scene
    context.options = {
        "deadline": "realtime",
        "lag-in-frames": "0",
        "auto-alt-ref": "0",
        "minrate": str(bitrate_bps),  # minrate = maxrate = rate makes the bitrate constant
        "maxrate": str(bitrate_bps),
        "bufsize": str(int(bitrate_bps * VBV_S)),
        "max-intra-rate": INTRA_PERCENT,
        **options,
    }
    return context


def _h264(picture: PictureFormat) -> VideoCodecContext:
    context, kbps = blank("libx264", picture), picture.bitrate_bps // 1000
    context.profile = "Baseline"
    context.options = {
        "preset": "superfast",
        "tune": "zerolatency",
        "crf": "14",
        "forced-idr": "1",
        "x264-params": f"vbv-maxrate={kbps}:vbv-bufsize={max(1, int(kbps * VBV_S))}"
        f":keyint=infinite:scenecut=0:repeat-headers=1:level={h264_level(picture)}",
    }
    return context


def _av1(picture: PictureFormat) -> VideoCodecContext:
    """SVT-AV1. Without SVT_LOG=0 it writes to standard error."""
    os.environ.setdefault("SVT_LOG", "0")
    context = blank("libsvtav1", picture)
    context.bit_rate = picture.bitrate_bps
    context.options = {
        "preset": str(SVT_PRESET),
        # real time; no reordering; one thread per stage; constant bitrate; no scene-cut detection
        "svtav1-params": "rtc=1:pred-struct=1:lp=1:rc=2:scd=0"
        f":buf-sz={VBV_MS}:buf-initial-sz={int(0.6 * VBV_MS)}:buf-optimal-sz={int(0.6 * VBV_MS)}",
    }
    return context


MAKERS: dict[Codec, Callable[[PictureFormat], VideoCodecContext]] = {
    "vp8": _vp8,
    "h264": _h264,
    "vp9": _vp9,
    "av1": _av1,
}
