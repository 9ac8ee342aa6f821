"""Puts encoded frames into containers without re-encoding: H.264 into MP4, MOV or Matroska; VP8, VP9 and AV1
into WebM or Matroska.

Codec names are h264, vp8, vp9 and av1. Times are in 1/90000 s.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import cast

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from engine.videofile.decode import first_frame

CLOCK = Fraction(1, 90_000)
DEMUXERS = {"h264": "h264", "av1": "obu"}  # for codecs whose headers a container repeats


def copied_stream(container: OutputContainer, codec: str, keyframe: bytes) -> VideoStream:
    """Add a stream for frames of this codec, the first of which is `keyframe`. Raises ValueError if that is
    not a keyframe."""
    if codec in DEMUXERS:
        with av.open(io.BytesIO(keyframe), format=DEMUXERS[codec]) as source:
            stream = container.add_stream_from_template(source.streams.video[0], opaque=True)
    else:
        frame = first_frame(codec, keyframe)
        if frame is None:
            raise ValueError(f"not a keyframe of {codec}")
        stream = cast(VideoStream, container.add_mux_stream(codec, width=frame.width, height=frame.height))
    stream.time_base = CLOCK
    return stream


def copied_packet(
    stream: VideoStream, data: bytes, pts_90k: int, duration_90k: int, *, keyframe: bool
) -> av.Packet[VideoStream]:
    """A packet of `stream` that contains one encoded frame; `duration_90k` is at least 1."""
    packet = cast("av.Packet[VideoStream]", av.Packet(data))
    packet.pts = packet.dts = pts_90k
    packet.time_base = CLOCK
    packet.duration = max(1, duration_90k)
    packet.is_keyframe = keyframe
    packet.stream = stream
    return packet
