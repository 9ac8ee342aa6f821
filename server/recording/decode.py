"""PyAV's decoders of what this server encodes, for pictures and for the size that a container states."""

from __future__ import annotations

from typing import cast

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

DECODERS = {"av1": "libdav1d"}  # FFmpeg's own decoder needs hardware


def decoder(codec: str) -> VideoCodecContext:
    """A decoder that holds no frame back."""
    context = cast(VideoCodecContext, av.CodecContext.create(DECODERS.get(codec, codec), "r"))
    context.thread_count = 1
    return context


def first_frame(codec: str, keyframe: bytes) -> VideoFrame | None:
    """None if this is no keyframe."""
    context = decoder(codec)
    try:
        frames = context.decode(av.Packet(keyframe)) + context.decode(None)
    except av.FFmpegError:
        return None
    return frames[0] if frames else None
