"""Reads a folder of users' videos with captions.

Captions are beside the videos (`walk.mp4`, `walk.txt`), or in JSON Lines (`{"file": "walk.mp4", "caption":
"…"}` per line, in any file that ends in `.jsonl`). Models are unknown here.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av import VideoFrame
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import InvalidInput
from engine.text_files import read_text

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
CHUNK = 64  # frames per piece, or a few more
EARLY_S = 1e-3  # tolerance of a frame's time, since Matroska rounds times to milliseconds


@dataclass(frozen=True)
class Video:
    path: Path
    caption: str


@dataclass(frozen=True)
class FrameFormat:
    """The frame size and rate to which every video is converted."""

    width: int
    height: int
    fps: int


def find_videos(folder: Path) -> list[Video]:
    """The videos in order of name. Raises InvalidInput without a folder, videos, or any video's caption."""
    if not folder.is_dir():
        raise InvalidInput(f"videos: {folder} is no folder", field="videos")
    captions: dict[Path, str] = {}
    for lines in sorted(path for path in folder.glob("*.jsonl") if not is_resource_fork(path)):
        for number, line in enumerate(read_text(lines, "videos").split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                captions[folder / row["file"]] = str(row["caption"])
            except (ValueError, KeyError, TypeError):
                raise InvalidInput(
                    f'videos: {lines}, line {number}: {{"file": …, "caption": …}} wanted', field="videos"
                ) from None
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        if path not in captions and not is_resource_fork(path):
            text = path.with_suffix(".txt")
            if not text.exists():
                raise InvalidInput(
                    f"videos: {path.name} has no caption: write {text.name}, or a line in a .jsonl file",
                    field="videos",
                )
            captions[path] = read_text(text, "videos").strip()
    for path in captions:
        if not path.exists():
            raise InvalidInput(f"videos: {path} is listed and not there", field="videos")
    if not captions:
        raise InvalidInput(f"videos: {folder} has none ({', '.join(SUFFIXES)})", field="videos")
    return [Video(path, captions[path]) for path in sorted(captions)]


def is_resource_fork(path: Path) -> bool:
    """Whether macOS made this file for another one on a foreign disk. `._walk.mp4` is not a video."""
    return path.name.startswith("._")


def read_frames(path: Path, screen: FrameFormat, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
    """Frames [start, stop), counted at the screen's rate, in pieces (T, 3, H, W) uint8.

    They are upright with square pixels, scaled to cover the screen and cropped around the middle. Raises
    InvalidInput if the file cannot be read or has no video."""
    taken: list[Tensor] = []
    number, at = start, 0.0
    latest: VideoFrame | None = None
    try:
        with av.open(str(path)) as container:
            stream = _moving_pictures(container, path)
            aspect = _pixel_aspect(stream)
            stream.thread_type = "AUTO"
            if start:
                container.seek(int(start / screen.fps * av.time_base) + (container.start_time or 0))
            begin = stream.start_time or 0
            for frame in container.decode(stream):
                if frame.pts is None or stream.time_base is None:
                    continue
                at = float((frame.pts - begin) * stream.time_base)
                # a frame is shown until the next one, so times that have passed show the previous frame
                if latest is not None and number / screen.fps < at - EARLY_S:
                    picture = _fitted(latest, screen, aspect)
                    while number / screen.fps < at - EARLY_S and number != stop:
                        taken.append(picture)
                        number += 1
                if len(taken) >= CHUNK:
                    yield torch.stack(taken)
                    taken = []
                if number == stop:
                    break
                latest = frame
            if latest is not None and number != stop and number / screen.fps < at + EARLY_S:
                taken.append(_fitted(latest, screen, aspect))
    except (OSError, av.FFmpegError, IndexError) as e:
        raise InvalidInput(f"videos: {path} cannot be read: {e}", field="videos") from None
    if taken:
        yield torch.stack(taken)


def _moving_pictures(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is not a cover picture. Raises InvalidInput."""
    videos = container.streams.video
    if not videos:
        raise InvalidInput(f"videos: {path} has no video, only sound or data", field="videos")
    moving = [stream for stream in videos if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise InvalidInput(f"videos: {path} has no video but its cover picture", field="videos")
    return moving[0]


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel over its height."""
    told = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return float(told) if told else 1.0


def _fitted(frame: VideoFrame, screen: FrameFormat, aspect: float) -> Tensor:
    """(3, H, W) uint8, upright."""
    turn = _orientation(frame)
    wide, high = (screen.height, screen.width) if turn.transposes else (screen.width, screen.height)
    width = frame.width * aspect
    scale = max(wide / width, high / frame.height)
    w, h = max(wide, round(scale * width)), max(high, round(scale * frame.height))
    picture: NDArray[np.uint8] = frame.reformat(width=w, height=h, format="rgb24").to_ndarray()  # type: ignore[assignment]
    x, y = (w - wide) // 2, (h - high) // 2
    cut = turn.apply(picture[y : y + high, x : x + wide])
    return torch.from_numpy(np.ascontiguousarray(cut)).permute(2, 0, 1)


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
