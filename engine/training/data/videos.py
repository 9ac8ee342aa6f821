"""A folder of somebody's own videos with captions, as shots of pixels.

Captions stand beside the videos (`walk.mp4`, `walk.txt`), or in JSON Lines (`{"file": "walk.mp4", "caption":
"…"}` per line, any name ending in `.jsonl`). Knows files and codecs, no models.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from engine.errors import InvalidInput

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
CHUNK = 64  # frames or a few more are handed out at a time


@dataclass(frozen=True)
class Video:
    path: Path
    caption: str


@dataclass(frozen=True)
class Screen:
    """What every video is brought to."""

    width: int
    height: int
    fps: int


def find_videos(folder: Path) -> list[Video]:
    """In the order of their names. Raises InvalidInput: no folder, no videos, one without a caption."""
    if not folder.is_dir():
        raise InvalidInput(f"videos: {folder} is no folder", field="videos")
    captions: dict[Path, str] = {}
    for lines in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(lines.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                captions[folder / row["file"]] = str(row["caption"])
            except (ValueError, KeyError, TypeError):
                raise InvalidInput(
                    f'videos: {lines}, line {number}: {{"file": …, "caption": …}} wanted', field="videos"
                ) from None
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        if path not in captions:
            text = path.with_suffix(".txt")
            if not text.exists():
                raise InvalidInput(
                    f"videos: {path.name} has no caption: write {text.name}, or a line in a .jsonl file",
                    field="videos",
                )
            captions[path] = text.read_text(encoding="utf-8").strip()
    for path in captions:
        if not path.exists():
            raise InvalidInput(f"videos: {path} is listed and not there", field="videos")
    if not captions:
        raise InvalidInput(f"videos: {folder} has none ({', '.join(SUFFIXES)})", field="videos")
    return [Video(path, captions[path]) for path in sorted(captions)]


def read_frames(path: Path, screen: Screen, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
    """Frames [start, stop), counted at the screen's rate, in pieces (T, 3, H, W) uint8: scaled to cover the
    screen and cut at the middle. Raises InvalidInput where the file cannot be read."""
    taken: list[Tensor] = []
    number, at = start, 0.0
    latest: av.VideoFrame | None = None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if start:
                container.seek(int(start / screen.fps * av.time_base) + (container.start_time or 0))
            begin = stream.start_time or 0
            for frame in container.decode(stream):
                if frame.pts is None or stream.time_base is None:
                    continue
                at = float((frame.pts - begin) * stream.time_base)
                # a frame is shown until the next one comes: those whose time has passed show the one before
                if latest is not None and number / screen.fps < at - 1e-6:
                    picture = _fitted(latest, screen)
                    while number / screen.fps < at - 1e-6 and number != stop:
                        taken.append(picture)
                        number += 1
                if len(taken) >= CHUNK:
                    yield torch.stack(taken)
                    taken = []
                if number == stop:
                    break
                latest = frame
            if latest is not None and number != stop and number / screen.fps < at + 1e-6:
                taken.append(_fitted(latest, screen))
    except (OSError, av.FFmpegError, IndexError) as e:
        raise InvalidInput(f"videos: {path} cannot be read: {e}", field="videos") from None
    if taken:
        yield torch.stack(taken)


def _fitted(frame: av.VideoFrame, screen: Screen) -> Tensor:
    """(3, H, W) uint8."""
    scale = max(screen.width / frame.width, screen.height / frame.height)
    w = max(screen.width, round(scale * frame.width))
    h = max(screen.height, round(scale * frame.height))
    picture = frame.reformat(width=w, height=h, format="rgb24").to_ndarray()
    x, y = (w - screen.width) // 2, (h - screen.height) // 2
    cut = picture[y : y + screen.height, x : x + screen.width]
    return torch.from_numpy(np.ascontiguousarray(cut)).permute(2, 0, 1)
