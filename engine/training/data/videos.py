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

import torch
from torch import Tensor

from engine.clips import FrameFormat, frames_of
from engine.errors import InvalidInput
from engine.text_files import read_text

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
CHUNK = 64  # frames per piece


@dataclass(frozen=True)
class Video:
    path: Path
    caption: str


def find_videos(folder: Path) -> list[Video]:
    """The videos in order of name. Raises InvalidInput without a folder, videos, or any video's caption."""
    if not folder.is_dir():
        raise InvalidInput(f"--videos: {folder} is no folder", field="videos")
    captions: dict[Path, str] = {}
    for lines in sorted(path for path in folder.glob("*.jsonl") if not is_resource_fork(path)):
        for number, line in enumerate(read_text(lines, "--videos").split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                captions[folder / row["file"]] = str(row["caption"])
            except (ValueError, KeyError, TypeError):
                raise InvalidInput(
                    f'--videos: {lines}, line {number}: {{"file": …, "caption": …}} wanted', field="videos"
                ) from None
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        if path not in captions and not is_resource_fork(path):
            text = path.with_suffix(".txt")
            if not text.exists():
                raise InvalidInput(
                    f"--videos: {path.name} has no caption: write {text.name}, or a line in a .jsonl file",
                    field="videos",
                )
            captions[path] = read_text(text, "--videos").strip()
    for path in captions:
        if not path.exists():
            raise InvalidInput(f"--videos: {path} is listed and not there", field="videos")
    if not captions:
        raise InvalidInput(f"--videos: {folder} has none ({', '.join(SUFFIXES)})", field="videos")
    return [Video(path, captions[path]) for path in sorted(captions)]


def is_resource_fork(path: Path) -> bool:
    """Whether macOS made this file for another one on a foreign disk. `._walk.mp4` is not a video."""
    return path.name.startswith("._")


def read_frames(path: Path, screen: FrameFormat, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
    """Frames [start, stop), counted at the screen's rate, in pieces (T, 3, H, W) uint8.

    They are upright with square pixels, scaled to cover the screen and cropped around the middle. Raises
    InvalidInput if the file cannot be read or has no video."""
    taken: list[Tensor] = []
    for frame in frames_of(path, screen, start, stop, field="videos"):
        taken.append(torch.from_numpy(frame))
        if len(taken) >= CHUNK:
            yield torch.stack(taken)
            taken = []
    if taken:
        yield torch.stack(taken)
