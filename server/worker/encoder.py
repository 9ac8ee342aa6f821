"""RGB pictures → video packets through PyAV: one encoder per codec and rung of a session, made for latency.

It doesn't know sessions, viewers or time; whoever calls it gives the timestamp and asks for keyframes.
Encoders run on one thread (libvpx with more stalls on a busy machine) and hold no frame back. Keyframes
come only when asked for: a long group of pictures is the cheapest, and viewers ask when they need one.

Legend: H W pixels of the model's picture; the encoded one may be `scale` times as large.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from engine.errors import InvalidInput
from engine.types import ByteArray
from server.codecs import CODECS
from server.worker.contexts import TIME_BASE, PictureFormat, software
from server.worker.hardware import open_h264


class Encoded(NamedTuple):
    data: bytes
    keyframe: bool


class ToYuv:
    """(H, W, 3) RGB → a planar frame that all codecs take, so that it is made once. Not thread-safe.

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
    """Raises InvalidInput for a codec it doesn't have. Not thread-safe. `close` frees the codec at once.

    With `hardware`, H.264 is encoded by the encoder that `server.worker.hardware` chose."""

    def __init__(
        self, codec: str, width: int, height: int, fps: int, bitrate_bps: int, *, hardware: bool = True
    ) -> None:
        known = next((name for name in CODECS if name == codec), None)
        if known is None:
            raise InvalidInput(f"unknown codec {codec!r}; choose one of {', '.join(CODECS)}", field="codec")
        self.codec = known
        picture = PictureFormat(width, height, fps, bitrate_bps)
        self._context: VideoCodecContext | None = (
            open_h264(picture, hardware=hardware) if known == "h264" else software(known, picture)
        )

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
        """Idempotent."""
        context, self._context = self._context, None
        if context is not None and context.is_open and self.codec == "av1":
            with contextlib.suppress(av.FFmpegError):
                context.encode(None)  # SVT-AV1 wants the end told before it is freed
