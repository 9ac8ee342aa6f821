"""Low-latency encoding of RGB pictures with PyAV: one encoder per codec and rung of a session.

It knows no sessions, viewers or time: the caller supplies timestamps and requests keyframes. Each encoder
uses one thread (with more, libvpx stalls on a busy machine) and delays no frame. Keyframes are made only on
request, since a long group of pictures is cheapest and viewers request a keyframe when they need one.

Legend: H, W: height and width of the model's picture; the encoded one may be `scale` times as large.
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
    """Converts (H, W, 3) uint8 RGB to a yuv420p frame, once for all codecs. Not thread-safe.

    It keeps its reformatters, since `VideoFrame.reformat` would set up a new one at each call, which is by
    far the most expensive part."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self._reformatter = VideoReformatter()
        self._smaller = VideoReformatter()

    def divided(self, frame: av.VideoFrame, by: int) -> av.VideoFrame:
        """The frame with its sides divided by `by` and rounded down to even numbers, for a slow link."""
        if by == 1:
            return frame
        width, height = (side // by // 2 * 2 for side in (frame.width, frame.height))
        return self._smaller.reformat(frame, width=width, height=height, interpolation=Interpolation.AREA)

    def __call__(self, picture: ByteArray) -> av.VideoFrame:
        """Convert a picture. Each pixel becomes a square of `scale` × `scale`, so that it keeps its own
        colour in spite of 4:2:0 subsampling. The page scales it down again."""
        height, width, _ = picture.shape
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(picture, format="rgb24"),
            width=width * self.scale,
            height=height * self.scale,
            format="yuv420p",
            interpolation=Interpolation.POINT,
        )


class VideoEncoder:
    """Raises InvalidInput for an unknown codec. Not thread-safe. `close` frees the codec at once.

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
        """Encode a frame. None if the codec returned nothing. `frame` may be passed to another encoder
        afterwards."""
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
                context.encode(None)  # SVT-AV1 must be flushed before it is freed
