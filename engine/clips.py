"""Reads videos by PyAV: frames at a model's size and rate, and what a new video can start from.

A clip may come from a stranger, so its size, length and pictures are bounded, and what is wrong with it is
named. What the frames are used for is unknown here.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.errors import InvalidInput
from engine.types import ByteArray

EARLY_S = 1e-3  # tolerance of a frame's time, since Matroska rounds times to milliseconds


@dataclass(frozen=True)
class FrameFormat:
    """The frame size and rate to which every video is converted."""

    width: int
    height: int
    fps: int


@dataclass(frozen=True)
class ClipLimits:
    """Bytes of the file, pixels of a frame, seconds of video."""

    nbytes: int = 8 * 2**20
    pixels: int = 2**21 + 2**15  # 1920 x 1088 and a little more
    seconds: float = 30.0


CLIPS_OF_STRANGERS = ClipLimits()
CLIP_FILES = ClipLimits(2 * 2**30, 9_000_000, 3600.0)  # named on the command line by the user


def read_clip(
    source: Path | bytes, screen: FrameFormat, *, least: int, most: int, limits: ClipLimits = CLIP_FILES
) -> ByteArray:
    """The first frame of a clip and its last ones, (1 + T, 3, H, W) uint8 with `least` ≤ T ≤ `most`.

    Raises InvalidInput that says what is wrong with the clip."""
    name = _named(source, "video")
    try:
        size = source.stat().st_size if isinstance(source, Path) else len(source)
    except OSError as e:
        raise InvalidInput(f"{name} cannot be read: {e.strerror}", field="video") from None
    if size > limits.nbytes:
        raise InvalidInput(f"{name} is larger than {limits.nbytes >> 20} MiB", field="video")
    first: ByteArray | None = None
    last: deque[ByteArray] = deque(maxlen=most)
    for number, frame in enumerate(frames_of(source, screen, field="video", limits=limits)):
        if number > limits.seconds * screen.fps:
            raise InvalidInput(f"{name} is longer than {limits.seconds:g} s: cut out its end", field="video")
        first = frame if first is None else first
        last.append(frame)
    if first is None or len(last) < least:
        raise InvalidInput(
            f"{name} has {len(last)} frames at {screen.fps} fps, at least {least} are needed "
            f"({least / screen.fps:.2g} s)",
            field="video",
        )
    return np.stack([first, *last])


def frames_of(
    source: Path | bytes,
    screen: FrameFormat,
    start: int = 0,
    stop: int | None = None,
    *,
    field: str,
    limits: ClipLimits | None = None,
) -> Iterator[ByteArray]:
    """Frames [start, stop), counted at the screen's rate, each (3, H, W) uint8. A frame that is shown for
    longer comes as the same array again.

    They are upright with square pixels, scaled to cover the screen and cropped around the middle. Raises
    InvalidInput if the file cannot be read or has no video."""
    name = _named(source, field)
    number, at = start, 0.0
    latest: VideoFrame | None = None
    try:
        with _opened(source) as container:
            stream = _moving_pictures(container, name, field)
            aspect = _pixel_aspect(stream)
            stream.thread_type = "AUTO"
            if start:
                container.seek(int(start / screen.fps * av.time_base) + (container.start_time or 0))
            begin = stream.start_time or 0
            for frame in container.decode(stream):
                if limits is not None and frame.width * frame.height > limits.pixels:
                    raise InvalidInput(
                        f"{name} is {frame.width}x{frame.height}: make it smaller", field=field
                    )
                if frame.pts is None or stream.time_base is None:
                    continue
                at = float((frame.pts - begin) * stream.time_base)
                # a frame is shown until the next one, so times that have passed show the previous frame
                if latest is not None and number / screen.fps < at - EARLY_S:
                    picture = _fitted(latest, screen, aspect)
                    while number / screen.fps < at - EARLY_S and number != stop:
                        yield picture
                        number += 1
                if number == stop:
                    break
                latest = frame
            if latest is not None and number != stop and number / screen.fps < at + EARLY_S:
                yield _fitted(latest, screen, aspect)
    except (OSError, av.FFmpegError, IndexError) as e:
        raise InvalidInput(f"{name} cannot be read: {e}", field=field) from None


def _named(source: Path | bytes, field: str) -> str:
    """How messages begin: a file was named by an option, bytes were sent in a field."""
    return f"--{field}: {source}" if isinstance(source, Path) else f"{field}: the clip"


def _opened(source: Path | bytes) -> InputContainer:
    """Bytes may come from a stranger: only containers that hold their own pictures are opened, since a
    playlist could name any file or address. Raises InvalidInput."""
    if isinstance(source, Path):
        return av.open(str(source), mode="r")
    check_clip(source)
    return av.open(io.BytesIO(source), mode="r", format="mp4" if source[4:8] == b"ftyp" else "matroska")


def check_clip(data: bytes) -> None:
    """Looks at the first bytes. Raises InvalidInput."""
    if data[4:8] != b"ftyp" and data[:4] != b"\x1aE\xdf\xa3":
        raise InvalidInput("video: it must be an MP4, MOV, WebM or Matroska file", field="video")


def _moving_pictures(container: InputContainer, name: str, field: str) -> VideoStream:
    """The first video stream that is not a cover picture. Raises InvalidInput."""
    videos = container.streams.video
    if not videos:
        raise InvalidInput(f"{name} has no video, only sound or data", field=field)
    moving = [stream for stream in videos if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise InvalidInput(f"{name} has no video but its cover picture", field=field)
    return moving[0]


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel over its height."""
    told = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return float(told) if told else 1.0


def _fitted(frame: VideoFrame, screen: FrameFormat, aspect: float) -> ByteArray:
    """(3, H, W) uint8, upright."""
    turn = _orientation(frame)
    wide, high = (screen.height, screen.width) if turn.transposes else (screen.width, screen.height)
    width = frame.width * aspect
    scale = max(wide / width, high / frame.height)
    w, h = max(wide, round(scale * width)), max(high, round(scale * frame.height))
    picture: NDArray[np.uint8] = frame.reformat(width=w, height=h, format="rgb24").to_ndarray()  # type: ignore[assignment]
    x, y = (w - wide) // 2, (h - high) // 2
    cut = turn.apply(picture[y : y + high, x : x + wide])
    return np.ascontiguousarray(cut.transpose(2, 0, 1))


class _Turn(NamedTuple):
    """The transformation that makes stored pixels upright: transpose first, then mirror."""

    transposes: bool = False
    mirrors_x: bool = False
    mirrors_y: bool = False

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3)."""
        if self.transposes:
            picture = picture.transpose(1, 0, 2)
        return picture[:: -1 if self.mirrors_y else 1, :: -1 if self.mirrors_x else 1]


def _orientation(frame: VideoFrame) -> _Turn:
    """From the display matrix that phones write: x' = a x + c y, y' = b x + d y, with y downwards."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return _Turn()
    a, b, _, c, d, *_ = np.frombuffer(data, np.int32)  # type: ignore[call-overload]
    if abs(int(b)) > abs(int(a)):
        return _Turn(True, mirrors_x=c < 0, mirrors_y=b < 0)
    return _Turn(False, mirrors_x=a < 0, mirrors_y=d < 0)
