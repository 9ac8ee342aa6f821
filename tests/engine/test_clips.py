"""What a new video can start from: a clip's first frame and its last ones; what is wrong with it is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.clips import ClipLimits, FrameFormat, read_clip
from engine.errors import InvalidInput
from engine.video import Mp4Writer

SCREEN = FrameFormat(32, 16, 8)


def written(path: Path, frames: int, fps: int = 8, size: tuple[int, int] = (32, 16)) -> Path:
    """Frames that get brighter."""
    with Mp4Writer(path, width=size[0], height=size[1], fps=fps) as writer:
        for n in range(frames):
            writer.add(np.full((size[1], size[0], 3), 5 * n, np.uint8))
    return path


def test_the_first_frame_and_the_last_ones_are_taken(tmp_path: Path) -> None:
    video = read_clip(written(tmp_path / "a.mp4", 40), SCREEN, least=4, most=10)
    assert video.shape == (11, 3, 16, 32)
    greys = video.mean((1, 2, 3))
    assert greys[0] < 8
    np.testing.assert_allclose(greys[1:], 5 * np.arange(30, 40), atol=4)


def test_bytes_are_read_like_a_file_and_rates_are_converted(tmp_path: Path) -> None:
    data = written(tmp_path / "a.mp4", 32, fps=16).read_bytes()
    video = read_clip(data, SCREEN, least=4, most=10)
    np.testing.assert_allclose(video[1:].mean((1, 2, 3)), 5 * np.arange(12, 32, 2), atol=6)


@pytest.mark.parametrize(
    ("frames", "limits", "said"),
    [
        (3, ClipLimits(), r"has 3 frames at 8 fps, at least 4 are needed \(0.5 s\)"),
        (40, ClipLimits(seconds=2), "is longer than 2 s: cut out its end"),
        (40, ClipLimits(nbytes=100), "is larger than 0 MiB"),
        (40, ClipLimits(pixels=100), "is 32x16: make it smaller"),
    ],
)
def test_bounds_are_told(tmp_path: Path, frames: int, limits: ClipLimits, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as e:
        read_clip(written(tmp_path / "a.mp4", frames), SCREEN, least=4, most=10, limits=limits)
    assert e.value.field == "video"


@pytest.mark.parametrize(
    "data", [b"", b"#EXTM3U\nfile:///etc/passwd\n", b"\x00\x00\x00\x18ftypisom" + bytes(99)]
)
def test_what_is_no_clip_is_refused(data: bytes) -> None:
    """A playlist could name any file: bytes are opened only in containers that hold their own pictures."""
    with pytest.raises(InvalidInput, match=r"MP4, MOV, WebM|cannot be read|has no video"):
        read_clip(data, SCREEN, least=4, most=10)


def test_a_file_that_is_not_there_or_is_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.mp4 cannot be read: No such file"):
        read_clip(tmp_path / "none.mp4", SCREEN, least=4, most=10)
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(InvalidInput, match=r"text\.mp4 cannot be read"):
        read_clip(tmp_path / "text.mp4", SCREEN, least=4, most=10)
