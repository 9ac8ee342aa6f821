"""RGB pictures → VP8 or H.264 through PyAV: one encoder per codec of a session, made for latency.

It doesn't know sessions, viewers or time; whoever calls it gives the timestamp and asks for keyframes.
Encoders run on one thread (libvpx with more stalls on a busy machine) and hold no frame back. Keyframes
come only when asked for: a long group of pictures is the cheapest, and viewers ask when they need one.

Legend: H W pixels of the model's picture; the encoded one may be `scale` times as large.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, NamedTuple, cast

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from engine.errors import InvalidInput
from engine.types import ByteArray

Codec = Literal["vp8", "h264"]
CODECS: tuple[Codec, ...] = ("vp8", "h264")
CLOCK_RATE = 90_000
TIME_BASE = Fraction(1, CLOCK_RATE)
NEVER = 1_000_000  # frames between keyframes that nobody asked for
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
VBV_S = 0.25  # bits may run ahead by this much: bounds what a keyframe costs everybody


class Encoded(NamedTuple):
    data: bytes
    keyframe: bool


class ToYuv:
    """(H, W, 3) RGB → a planar frame that both codecs take, so that it is made once. Not thread-safe.

    Keeps its reformatters: `VideoFrame.reformat` sets up a new one at each call, by far the costliest
    part."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self._reformatter = VideoReformatter()
        self._smaller = VideoReformatter()

    def divided(self, frame: av.VideoFrame, by: int) -> av.VideoFrame:
        """The same frame with shorter sides, for a slow link."""
        if by == 1:
            return frame
        width, height = (side // by // 2 * 2 for side in (frame.width, frame.height))
        return self._smaller.reformat(frame, width=width, height=height, interpolation=Interpolation.AREA)

    def __call__(self, picture: ByteArray) -> av.VideoFrame:
        """Each pixel becomes a square, which has a colour of its own in spite of 4:2:0; the page makes it a
        pixel again."""
        height, width, _ = picture.shape
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(picture, format="rgb24"),
            width=width * self.scale,
            height=height * self.scale,
            format="yuv420p",
            interpolation=Interpolation.POINT,
        )


class VideoEncoder:
    """Raises InvalidInput for a codec it doesn't have. Not thread-safe. `close` frees the codec at once."""

    def __init__(self, codec: str, width: int, height: int, fps: int, bitrate_bps: int) -> None:
        if codec not in CODECS:
            raise InvalidInput(f"unknown codec {codec!r}; choose one of {', '.join(CODECS)}", field="codec")
        self.codec = codec
        self._context: VideoCodecContext | None = _context(codec, width, height, fps, bitrate_bps)

    def encode(self, frame: av.VideoFrame, pts_90k: int, *, keyframe: bool) -> Encoded | None:
        """None where the codec gave nothing out. `frame` may be given to another encoder afterwards."""
        if self._context is None:
            return None
        frame.pts, frame.time_base = pts_90k, TIME_BASE
        frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        packets = self._context.encode(frame)
        if not packets:
            return None
        return Encoded(b"".join(bytes(packet) for packet in packets), packets[0].is_keyframe)

    def close(self) -> None:
        self._context = None


def _context(codec: str, width: int, height: int, fps: int, bitrate_bps: int) -> VideoCodecContext:
    name = "libvpx" if codec == "vp8" else "libx264"
    context = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = TIME_BASE, Fraction(fps)
    context.gop_size = NEVER
    context.thread_count = 1
    if codec == "vp8":
        context.bit_rate = bitrate_bps
        context.qmin, context.qmax = 2, 63  # a slow link's rung must keep its rate even in a busy scene
        context.options = {
            "deadline": "realtime",
            "cpu-used": "-6",
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "minrate": str(bitrate_bps),  # minrate = maxrate = rate makes it constant
            "maxrate": str(bitrate_bps),
            "bufsize": str(int(bitrate_bps * VBV_S)),
            "max-intra-rate": "400",  # per cent of a frame's share
        }
        return context
    kbps = bitrate_bps // 1000
    context.profile = "Baseline"
    context.options = {
        "preset": "superfast",
        "tune": "zerolatency",
        "crf": "14",
        "forced-idr": "1",
        "x264-params": f"vbv-maxrate={kbps}:vbv-bufsize={max(1, int(kbps * VBV_S))}"
        f":keyint=infinite:scenecut=0:repeat-headers=1:level={h264_level(width, height, fps, bitrate_bps)}",
    }
    return context


def h264_level(width: int, height: int, fps: int, bitrate_bps: int) -> int:
    """The lowest level (31 for 3.1) whose decoders play such a stream: ITU-T H.264, table A-1."""
    blocks = -(-width // 16) * -(-height // 16)
    for level, blocks_per_s, blocks_per_frame, kbps in H264_LEVELS:
        if blocks <= blocks_per_frame and blocks * fps <= blocks_per_s and bitrate_bps <= 1000 * kbps:
            return level
    return H264_LEVELS[-1][0]
