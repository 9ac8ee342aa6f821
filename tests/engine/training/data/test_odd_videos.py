"""Videos as people have them: filmed upright, with odd pixels, at a varying rate, or not videos at all."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.clips import FrameFormat
from engine.errors import InvalidInput
from engine.training.data.footage import Footage
from engine.training.data.videos import find_videos, read_frames

WIDE, TALL = FrameFormat(160, 96, 16), FrameFormat(96, 160, 16)
# display matrices (a, b, c, d) of x' = a x + c y, y' = b x + d y
STORED = {
    "upright": (1, 0, 0, 1),
    "a quarter turn clockwise": (0, 1, -1, 0),
    "upside down": (-1, 0, 0, -1),
    "a quarter turn counterclockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
}


def scene(width: int = 160, height: int = 96) -> NDArray[np.uint8]:
    """(H, W, 3): four corners of different colours, so that every turn shows."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (220, 30, 30)
    picture[: height // 2, width // 2 :] = (30, 200, 30)
    picture[height // 2 :, : width // 2] = (40, 40, 230)
    picture[height // 2 :, width // 2 :] = (230, 220, 40)
    return picture


def write(
    path: Path,
    pictures: list[NDArray[np.uint8]],
    *,
    times: list[float] | None = None,
    aspect: Fraction = Fraction(1),
) -> None:
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "12", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = round(1000 * (times[number] if times else number / 16))
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def stored(picture: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The pixels that this display matrix turns into `picture`: its inverse, done one by one."""
    a, b, c, d = matrix
    height, width = picture.shape[:2]
    high, wide = (width, height) if a == 0 else (height, width)
    out = np.zeros((high, wide, 3), np.uint8)
    for y in range(high):
        for x in range(wide):
            to_x, to_y = a * x + c * y, b * x + d * y
            out[y, x] = picture[to_y % height, to_x % width]
    return out


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """In the track's header, where phones write it."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = matrix
    numbers = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], ">i4")
    data[at : at + 36] = numbers.tobytes()
    path.write_bytes(data)


def read(path: Path, screen: FrameFormat) -> Tensor:
    return torch.cat(list(read_frames(path, screen)))


def distance(found: Tensor, wanted: NDArray[np.uint8]) -> float:
    return float((found.float() - torch.from_numpy(wanted).permute(2, 0, 1).float()).abs().mean())


@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("screen", [WIDE, TALL], ids=["wide", "tall"])
def test_a_video_is_learned_upright_however_the_phone_was_held(
    how: str, screen: FrameFormat, tmp_path: Path
) -> None:
    wanted = scene(screen.width, screen.height)
    write(tmp_path / "a.mp4", [stored(wanted, STORED[how])] * 4)
    set_display_matrix(tmp_path / "a.mp4", STORED[how])
    frames = read(tmp_path / "a.mp4", screen)
    assert frames.shape == (4, 3, screen.height, screen.width)
    assert distance(frames[0], wanted) < 10  # a wrong turn is beyond 60


@pytest.mark.parametrize(("width", "aspect"), [(80, Fraction(2)), (320, Fraction(1, 2)), (160, Fraction(1))])
def test_pixels_that_are_not_square_are_made_so(width: int, aspect: Fraction, tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [scene(width, 96)] * 2, aspect=aspect)
    assert distance(read(tmp_path / "a.mp4", WIDE)[0], scene()) < 8


def test_pixels_that_are_not_square_of_a_turned_video(tmp_path: Path) -> None:
    matrix = STORED["a quarter turn clockwise"]
    narrow = stored(scene(96, 160), matrix)[:, ::2]  # 80x96 pixels, twice as wide as they are high
    write(tmp_path / "a.mp4", [narrow] * 2, aspect=Fraction(2))
    set_display_matrix(tmp_path / "a.mp4", matrix)
    assert distance(read(tmp_path / "a.mp4", TALL)[0], scene(96, 160)) < 10


def test_frames_of_a_varying_rate_come_at_their_time(tmp_path: Path) -> None:
    """As phones film in the dark: two frames in quick succession, then half a second of nothing."""
    shades = [np.full((96, 160, 3), 40 * n, np.uint8) for n in range(1, 6)]
    write(tmp_path / "a.mp4", shades, times=[0, 1 / 16, 2 / 16, 10 / 16, 11 / 16])
    frames = read(tmp_path / "a.mp4", WIDE)
    shown = [round(float(frame.float().mean()) / 40) for frame in frames]
    assert shown == [1, 2, *[3] * 8, 4, 5]


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def cover_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (sound, "has no video, only sound or data"),
        (cover_only, "has no video but its cover picture"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
    ],
)
def test_what_has_no_video_is_named(make: object, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make(path)  # type: ignore[operator]
    with pytest.raises(InvalidInput, match=rf"a\.mp4 {says}"):
        read(path, WIDE)


def test_what_cannot_be_used_is_skipped_by_name_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moving = [np.roll(scene(), 3 * n, axis=1) for n in range(32)]
    write(tmp_path / "good.mp4", moving)
    sound(tmp_path / "sound.mp4")
    (tmp_path / "damaged.mp4").write_bytes(b"no video")
    (tmp_path / "._good.mp4").write_bytes(b"\x00\x05\x16\x07")  # by macOS
    (tmp_path / "._list.jsonl").write_bytes(b"\x00\x05\x16\x07\xff")
    lines = [{"file": f"{name}.mp4", "caption": name} for name in ("good", "sound", "damaged")]
    text = "\r\n".join(json.dumps(line) for line in lines)
    (tmp_path / "list.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    assert [video.path.name for video in find_videos(tmp_path)] == ["damaged.mp4", "good.mp4", "sound.mp4"]
    footage = Footage(tmp_path, WIDE, least=16, cache=tmp_path / "cache")
    assert {take.video.path.name for take in footage.takes} == {"good.mp4"}
    told = capsys.readouterr().out
    assert "skipped: " in told
    assert "sound.mp4 has no video" in told
    assert "damaged.mp4 cannot be read" in told
    assert told.endswith("2 of 3 videos skipped\n")
