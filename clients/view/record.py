"""Writes received frames into a file: unchanged if the container takes their codec, otherwise encoded again.

MP4 and MOV take H.264, WebM takes VP8, Matroska takes both. Recording starts at the first keyframe. Time is
the stream's own 90 kHz clock, so a file is as long as the video that was seen.

Whatever ends the recording, the file plays: it is written in fragments of half a second, and gets its index
at the end. A process that is killed, or a full disk, costs the last fragment.
"""

from __future__ import annotations

import contextlib
import io
import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.video.stream import VideoStream

from clients.command import check_output
from clients.errors import BadInput, RecordError

CONTAINERS: dict[str, tuple[str, ...]] = {
    ".mp4": ("H264",),
    ".mov": ("H264",),
    ".mkv": ("H264", "VP8"),
    ".webm": ("VP8",),
}
CLOCK = Fraction(1, 90_000)
FRAGMENTS = {"frag_duration": "500000", "movflags": "hybrid_fragmented"}  # microseconds; of MP4 and MOV
_RANGE = 1 << 32
_DEMUXERS = {"H264": "h264"}
_ENCODERS = {
    "H264": ("libx264", {"preset": "veryfast", "crf": "20"}),
    "VP8": ("libvpx", {"deadline": "realtime", "lag-in-frames": "0", "crf": "10", "b": "2M"}),
}
Mode = Literal["copied", "encoded again"]


def preferred_codecs(path: Path) -> tuple[str, ...]:
    """The codecs to ask the server for, so that frames can be kept unchanged. Raises BadInput."""
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        raise BadInput(f"--record: {path.name!r} must end in one of {', '.join(CONTAINERS)}")
    check_output(path, "--record")
    first = CONTAINERS[suffix]
    return first + tuple(name for name in ("H264", "VP8") if name not in first)


def is_keyframe(codec: str, data: bytes) -> bool:
    if codec == "VP8":
        return bool(data) and not data[0] & 1
    if codec == "H264":
        units = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
        return any(unit and unit[0] & 0x1F == 5 for unit in units)
    return False


class Recorder:
    """`write` every frame in order, then `close`; `seconds` limits the file's length exactly.

    Both raise RecordError if the file cannot be written."""

    def __init__(self, path: Path, seconds: float | None = None) -> None:
        preferred_codecs(path)
        self.path = path
        self.frames = 0
        self.full = False
        self.mode: Mode | None = None
        self._limit = None if seconds is None else round(seconds * 90_000)
        self._container: av.container.OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._decoder: av.VideoCodecContext | None = None
        self._codec = ""
        self._pending: tuple[int, bytes, bool] | None = None  # until the next frame tells its duration
        self._last = 0
        self._step = 0
        self._pts = 0
        self._broken = False  # nothing more can be written
        self._packets = 0
        self._whole_bytes = 0  # of the file, up to the last complete fragment

    @property
    def seconds(self) -> float:
        """Duration of the file so far."""
        end = self._limit if self.full and self._limit else self._pts + self._step
        return end / 90_000 if self.frames else 0.0

    def write(self, codec: str, data: bytes, rtp_timestamp: int) -> None:
        if self.full:
            return
        key = is_keyframe(codec, data)
        if self._container is None:
            if not key:
                return
            self._open(codec, data)
            self._last = rtp_timestamp
        if codec != self._codec:
            return
        ahead = (rtp_timestamp - self._last) % _RANGE
        if ahead >= _RANGE // 2 or (not ahead and self.frames):
            return  # older than the last frame written
        self._last = rtp_timestamp
        pts = self._pts + ahead
        if self._limit is not None and pts >= self._limit:
            self._flush(self._limit)
            self.full = True
            return
        if self._pending is not None:
            self._step = ahead
            self._flush(pts)
        self._pts = pts
        self.frames += 1
        self._pending = (pts, data, key)

    def close(self) -> None:
        """Finish the file. Idempotent."""
        if self._container is None or self._stream is None:
            return
        try:
            if not self._broken:
                self._flush(self._pts + self._step)
                if self._decoder is not None:
                    self._mux(self._stream.encode(None))
        finally:
            container, self._container = self._container, None
            try:
                if self._packets:  # else FFmpeg would crash in finishing an MP4 of fragments
                    container.close()
            except (OSError, av.FFmpegError) as error:
                self._cut()
                raise self._failed(error) from error

    def _options(self) -> dict[str, str]:
        fragments = FRAGMENTS if self.path.suffix.lower() in (".mp4", ".mov") else {}
        return {"flush_packets": "1", **fragments}

    def _open(self, codec: str, keyframe: bytes) -> None:
        copied = codec in CONTAINERS[self.path.suffix.lower()]
        width, height = _size(codec, keyframe)
        try:
            self._container = av.open(str(self.path), "w", options=self._options())
        except (OSError, av.FFmpegError) as error:
            raise self._failed(error) from error
        self._codec, self.mode = codec, "copied" if copied else "encoded again"
        if copied and codec in _DEMUXERS:
            with av.open(io.BytesIO(keyframe), format=_DEMUXERS[codec]) as source:
                self._stream = self._container.add_stream_from_template(source.streams.video[0])
        elif copied:
            stream = self._container.add_mux_stream(codec.lower(), width=width, height=height)
            assert isinstance(stream, VideoStream)
            self._stream = stream
        else:
            name, options = _ENCODERS[CONTAINERS[self.path.suffix.lower()][0]]
            encoder = self._container.add_stream(name, options=options)
            assert isinstance(encoder, VideoStream)
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            self._stream = encoder
            self._decoder = _decoder(codec)
        self._stream.time_base = CLOCK

    def _flush(self, until: int) -> None:
        """Write the pending frame, which shows until `until`."""
        if self._pending is None or self._container is None or self._stream is None:
            return
        (pts, data, key), self._pending = self._pending, None
        packet = av.Packet(data)
        packet.pts = packet.dts = pts
        packet.time_base = CLOCK
        if self._decoder is None:
            packet.duration = max(until - pts, 1)
            packet.is_keyframe = key
            packet.stream = self._stream
            self._mux([packet])
            return
        for frame in self._decoder.decode(packet):
            frame.pts, frame.time_base = pts, CLOCK
            frame.duration = max(until - pts, 1)
            self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[Any]) -> None:
        assert self._container is not None
        try:
            self._container.mux(packets)
        except (OSError, av.FFmpegError) as error:
            self.full = self._broken = True
            raise self._failed(error) from error
        self._packets += len(packets)
        if self.path.is_file():
            self._whole_bytes = self.path.stat().st_size

    def _cut(self) -> None:
        """Drop the fragment that a full disk has cut short; players would stumble over it."""
        with contextlib.suppress(OSError):
            os.truncate(self.path, self._whole_bytes)

    def _failed(self, error: OSError | av.FFmpegError) -> RecordError:
        return RecordError(f"--record: cannot write {self.path}: {error.strerror or error}")


def _decoder(codec: str) -> av.VideoCodecContext:
    context = av.CodecContext.create(codec.lower(), "r")
    assert isinstance(context, av.VideoCodecContext)
    return context


def _size(codec: str, keyframe: bytes) -> tuple[int, int]:
    decoder = _decoder(codec)
    frames = decoder.decode(av.Packet(keyframe)) + decoder.decode(None)
    if not frames:
        raise RecordError("--record: the first keyframe cannot be decoded")
    return frames[0].width, frames[0].height
