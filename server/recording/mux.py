"""Writes encoded frames to MP4 (H.264), WebM (the other codecs) and fragmented MP4, without re-encoding."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
from av.video.stream import VideoStream

from engine.videofile.copied import copied_packet, copied_stream
from server.webrtc.recent import Frame

WEBM = ("webm", "video/webm")
TYPES = {"h264": ("mp4", "video/mp4"), "vp8": WEBM, "vp9": WEBM, "av1": WEBM}
LAST_90K = 5625  # duration of a file's last frame
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def whole_file(codec: str, frames: Sequence[Frame]) -> bytes:
    """A file with these frames, of which the first is a keyframe. Call it in a thread."""
    file = io.BytesIO()
    with av.open(file, "w", format=TYPES[codec][0]) as container:
        stream = copied_stream(container, codec, frames[0].data)
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
        self._stream = copied_stream(self._container, "h264", keyframe.data)
        self._first_90k = keyframe.pts_90k
        self._waiting: Frame | None = None  # the latest frame, until its duration is known
        self._container.start_encoding()
        self.initial = self._out.take()

    def add(self, frame: Frame) -> bytes:
        """Add a frame. Returns the fragment that ends before it, empty if there is none."""
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


def _packet(stream: VideoStream, frame: Frame, first_90k: int, until_90k: int) -> av.Packet[VideoStream]:
    """The frame's packet; it is shown until `until_90k`."""
    pts_90k, duration_90k = frame.pts_90k - first_90k, until_90k - frame.pts_90k
    return copied_packet(stream, frame.data, pts_90k, duration_90k, keyframe=frame.keyframe)
