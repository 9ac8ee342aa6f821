"""Writes received frames to a file: unchanged if the container supports their codec, otherwise encoded again.

MP4 and MOV support H.264, WebM supports VP8, Matroska supports both. Recording starts at the first keyframe.
Time is the stream's own 90 kHz clock, so a file is as long as the video that was seen. Whatever ends the
recording, the file plays (engine.videofile.fragmented).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import av
from av.video.stream import VideoStream

from clients.errors import RecordError
from engine.commandline.outputs import check_output
from engine.errors import InvalidInput
from engine.videofile.copied import CLOCK, copied_packet, copied_stream
from engine.videofile.decode import decoder, first_frame
from engine.videofile.fragmented import FragmentedFile

CONTAINERS: dict[str, tuple[str, ...]] = {
    ".mp4": ("H264",),
    ".mov": ("H264",),
    ".mkv": ("H264", "VP8"),
    ".webm": ("VP8",),
}
_RANGE = 1 << 32
_ENCODERS = {
    "H264": ("libx264", {"preset": "veryfast", "crf": "20"}),
    "VP8": ("libvpx", {"deadline": "realtime", "lag-in-frames": "0", "crf": "10", "b": "2M"}),
}
Mode = Literal["copied", "encoded again"]


def preferred_codecs(path: Path) -> tuple[str, ...]:
    """The codecs to request from the server, so that frames can be stored unchanged. Raises InvalidInput."""
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        raise InvalidInput(f"--record: {path.name!r} must end in one of {', '.join(CONTAINERS)}")
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
    """Call `write` for every frame in order, then `close`. Both raise RecordError if the file cannot be
    written. `seconds` limits the file's duration exactly."""

    def __init__(self, path: Path, seconds: float | None = None) -> None:
        preferred_codecs(path)
        self.path = path
        self.frames = 0
        self.full = False
        self.mode: Mode | None = None
        self._limit = None if seconds is None else round(seconds * 90_000)
        self._file: FragmentedFile | None = None
        self._stream: VideoStream | None = None
        self._decoder: av.VideoCodecContext | None = None
        self._codec = ""
        self._pending: tuple[int, bytes, bool] | None = None  # until the next frame determines its duration
        self._last = 0
        self._step = 0
        self._pts = 0
        self._broken = False  # nothing more can be written

    @property
    def seconds(self) -> float:
        """Duration of the file so far."""
        end = self._limit if self.full and self._limit else self._pts + self._step
        return end / 90_000 if self.frames else 0.0

    def write(self, codec: str, data: bytes, rtp_timestamp: int) -> None:
        if self.full:
            return
        key = is_keyframe(codec, data)
        if self._file is None:
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
        if self._file is None or self._stream is None:
            return
        try:
            if not self._broken:
                self._flush(self._pts + self._step)
                if self._decoder is not None:
                    self._mux(self._stream.encode(None))
        finally:
            file, self._file = self._file, None
            try:
                file.close()
            except (OSError, av.FFmpegError) as error:
                raise self._failed(error) from error

    def _open(self, codec: str, keyframe: bytes) -> None:
        copied = codec in CONTAINERS[self.path.suffix.lower()]
        first = first_frame(codec.lower(), keyframe)
        if first is None:
            raise RecordError("--record: the first keyframe cannot be decoded")
        try:
            self._file = FragmentedFile(self.path)
        except (OSError, av.FFmpegError) as error:
            raise self._failed(error) from error
        self._codec, self.mode = codec, "copied" if copied else "encoded again"
        if copied:
            self._stream = copied_stream(self._file.container, codec.lower(), keyframe)
        else:
            name, options = _ENCODERS[CONTAINERS[self.path.suffix.lower()][0]]
            encoder = self._file.container.add_stream(name, options=options)
            assert isinstance(encoder, VideoStream)
            encoder.width, encoder.height, encoder.pix_fmt = first.width, first.height, "yuv420p"
            encoder.time_base = CLOCK
            self._stream, self._decoder = encoder, decoder(codec.lower())

    def _flush(self, until: int) -> None:
        """Write the pending frame, which is shown until `until`."""
        if self._pending is None or self._file is None or self._stream is None:
            return
        (pts, data, key), self._pending = self._pending, None
        packet = copied_packet(self._stream, data, pts, until - pts, keyframe=key)
        if self._decoder is None:
            self._mux([packet])
            return
        for frame in self._decoder.decode(packet):
            frame.pts, frame.time_base = pts, CLOCK
            frame.duration = max(until - pts, 1)
            self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[Any]) -> None:
        assert self._file is not None
        try:
            self._file.mux(packets)
        except (OSError, av.FFmpegError) as error:
            self.full = self._broken = True
            raise self._failed(error) from error

    def _failed(self, error: OSError | av.FFmpegError) -> RecordError:
        return RecordError(f"--record: cannot write {self.path}: {error.strerror or error}")
