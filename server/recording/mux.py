"""Encoded frames to files: MP4 with H.264, WebM with the others, and fragmented MP4, without re-encoding."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from server.recording.decode import first_frame
from server.webrtc.recent import CLOCK_RATE, Frame

CLOCK = Fraction(1, CLOCK_RATE)
WEBM = ("webm", "video/webm")
TYPES = {"h264": ("mp4", "video/mp4"), "vp8": WEBM, "vp9": WEBM, "av1": WEBM}
DEMUXERS = {"h264": "h264", "av1": "obu"}  # for codecs whose headers a container repeats
LAST_90K = 5625  # how long the last frame of a file is shown
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def whole_file(codec: str, frames: Sequence[Frame]) -> bytes:
    """A file of these frames, which start with a keyframe. Call it in a thread."""
    file = io.BytesIO()
    with av.open(file, "w", format=TYPES[codec][0]) as container:
        stream = _stream(container, codec, frames[0].data)
        first_90k = frames[0].pts_90k
        for i, frame in enumerate(frames):
            until_90k = frames[i + 1].pts_90k if i + 1 < len(frames) else frame.pts_90k + LAST_90K
            container.mux(_packet(stream, frame, first_90k, until_90k))
    return file.getvalue()


class Fragments:
    """H.264 as fragmented MP4, one fragment per group of pictures. `initial` is the initialisation
    segment."""

    def __init__(self, keyframe: Frame) -> None:
        self._out = _Collected()
        self._container = av.open(self._out, "w", format="mp4", options=FRAGMENTS)
        self._stream = _stream(self._container, "h264", keyframe.data)
        self._first_90k = keyframe.pts_90k
        self._waiting: Frame | None = None  # until its duration is known
        self._container.start_encoding()
        self.initial = self._out.take()

    def add(self, frame: Frame) -> bytes:
        """The fragment that ends before this frame; empty if it is not complete."""
        if (waiting := self._waiting) is not None:
            self._container.mux(_packet(self._stream, waiting, self._first_90k, frame.pts_90k))
        self._waiting = frame
        return self._out.take()

    def close(self) -> None:
        self._container.close()


class _Collected:
    """A file object that returns what was written to it since the last call."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _stream(container: OutputContainer, codec: str, keyframe: bytes) -> VideoStream:
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


def _packet(stream: VideoStream, frame: Frame, first_90k: int, until_90k: int) -> av.Packet[VideoStream]:
    packet = cast("av.Packet[VideoStream]", av.Packet(frame.data))
    packet.pts = packet.dts = frame.pts_90k - first_90k
    packet.time_base = CLOCK
    packet.duration = max(1, until_90k - frame.pts_90k)
    packet.is_keyframe = frame.keyframe
    packet.stream = stream
    return packet
