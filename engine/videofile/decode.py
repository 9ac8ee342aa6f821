"""PyAV's decoders for H.264, VP8, VP9 and AV1. Codec names are in lower case."""

from __future__ import annotations

from typing import cast

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

DECODERS = {"av1": "libdav1d"}  # FFmpeg's own decoder needs hardware


def decoder(codec: str) -> VideoCodecContext:
    """A decoder that delays no frame."""
    context = cast(VideoCodecContext, av.CodecContext.create(DECODERS.get(codec, codec), "r"))
    context.thread_count = 1
    return context


def first_frame(codec: str, keyframe: bytes) -> VideoFrame | None:
    """Decode a keyframe. None if it is not one."""
    context = decoder(codec)
    try:
        frames = context.decode(av.Packet(keyframe)) + context.decode(None)
    except av.FFmpegError:
        return None
    return frames[0] if frames else None
