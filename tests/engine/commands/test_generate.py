"""`psistream generate`: playable files, the script's timing, one clear line for every mistake."""

from __future__ import annotations

import io
import os
import signal
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from engine.backends.fake import FAIL_WORD, FAKE_SPEC, FakeBackend
from engine.commands.generate import main
from engine.errors import BackendError, InvalidInput
from engine.images import decode_image
from engine.runtime.offline import segments
from engine.script import Entry, parse_script
from engine.types import Action, ByteArray, Prompt, Reset
from engine.video import Mp4Writer

ACTIONS = FAKE_SPEC.actions


def read(path: Path) -> list[ByteArray]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(video=0)]


def run(path: Path, *more: str) -> int:
    return main(["--backend", "fake", "--prompt", "a red city", "--out", str(path), "--scale", "1", *more])


def sky(frame: ByteArray) -> int:
    """The channel with the largest mean."""
    h, w = frame.shape[:2]
    return int(frame[h // 5 : h // 2, : w // 3].mean((0, 1)).argmax())


def test_it_writes_a_video_of_the_requested_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert run(out, "--seconds", "1.3", "--seed", "7", "--scale", "2") == 0
    frames = read(out)
    assert len(frames) == 21
    assert frames[0].shape == (192, 320, 3)
    assert capsys.readouterr().out == f"{out}: 1.3125 s, 320x192 at 16 fps, seed 7\n"


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.mp4" for n in range(3)]
    for path, seed in zip(files, ("5", "5", "6"), strict=True):
        assert run(path, "--seconds", "1", "--seed", seed) == 0
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_the_script_steers_at_its_times(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    script = "0.5s:prompt=a green, wide city,1s:cut=blue,1.5s:right"
    assert run(out, "--seconds", "2", "--script", script) == 0
    frames = read(out)
    assert [sky(frames[i]) for i in (6, 10, 14, 18, 30)] == [0, 1, 1, 2, 2]


def test_a_script_takes_effect_at_the_nearest_boundary() -> None:
    def colours(at_s: float) -> list[int]:
        made = segments(FakeBackend(), prompt="red", script=[Entry(at_s, Prompt("blue"))])
        return [sky(next(made).frames[-1]) for _ in range(4)]

    assert colours(0.0) == [2, 2, 2, 2]
    assert colours(0.74) == colours(0.26) == colours(0.5) == [0, 2, 2, 2]
    assert colours(0.76) == [0, 0, 2, 2]
    assert colours(99.0) == [0, 0, 0, 0]


def test_a_picture_can_start_the_video(tmp_path: Path) -> None:
    picture, out = tmp_path / "start.png", tmp_path / "out.mp4"
    pixels = np.zeros((300, 500, 3), np.uint8)
    pixels[:, :250, 1] = 255
    Image.fromarray(pixels).save(picture)
    assert run(out, "--seconds", "0.5", "--image", str(picture)) == 0
    frame = read(out)[-1].astype(int)
    assert frame[20:50, :70, 1].mean() > frame[20:50, 90:, 1].mean() + 30


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prompt", "x"], "--out"),
        (["--out", "x.mp4"], "--prompt"),
        (["--prompt", "x", "--out", "x.avi"], "--out: x.avi must end in .mp4"),
        (["--prompt", "x", "--out", "missing/x.mp4"], "cannot write missing/x.mp4: No such file"),
        (["--prompt", "x", "--out", "folder.mp4"], "Is a directory"),
        (["--prompt", "x", "--out", "x.mp4", "--seconds", "0"], "--seconds: must be more than 0"),
        (["--prompt", "x", "--out", "x.mp4", "--seconds", "inf"], "--seconds"),
        (["--prompt", "x", "--out", "x.mp4", "--seconds", "long"], "--seconds"),
        (["--prompt", "x", "--out", "x.mp4", "--seed", "-1"], "--seed: must be a whole number"),
        (["--prompt", "x", "--out", "x.mp4", "--scale", "99"], "--scale: must be a whole number"),
        (
            ["--prompt", "x", "--out", "x.mp4", "--scale", "1", "--filter", "nearest"],
            "--filter has no effect with --scale 1: leave it out",
        ),
        (["--prompt", "x", "--out", "x.mp4", "--frames", "3"], "unrecognized arguments: --frames"),
        (["--prompt", "x", "--out", "x.mp4", "--backend", "tpu"], "choose from"),
        (["--prompt", "x", "--out", "x.mp4", "--model", "nowhere"], "--model: nowhere is neither a folder"),
        (["--prompt", "x", "--out", "x.mp4", "--image", "nowhere.png"], "--image: cannot read nowhere.png"),
        (
            ["--prompt", "x", "--out", "x.mp4", "--image", "bad.png"],
            "bad.png: the data is not a picture: use PNG",
        ),
        (["--prompt", "x", "--out", "x.mp4", "--script", "2s:fly"], "'fly' is unknown; use one of idle"),
        (["--prompt", "x", "--out", "x.mp4", "--script", "right"], "is not TIME:WHAT"),
        (["--prompt", "x" * 3000, "--out", "x.mp4"], "prompt is 3000 bytes long"),
    ],
)
def test_bad_input_gives_one_clear_line_and_leaves_no_file(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    backend = [] if "--backend" in arguments else ["--backend", "fake"]
    assert main([*arguments, *backend]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("psistream generate: ")
    assert says in last
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.png", "folder.mp4"]


def test_a_failing_backend_is_one_line_too_and_the_video_so_far_remains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none.mp4", "--script", f"0s:prompt={FAIL_WORD}") == 1
    assert not (tmp_path / "none.mp4").exists()
    assert run(tmp_path / "some.mp4", "--script", f"1s:prompt={FAIL_WORD}") == 1
    assert len(read(tmp_path / "some.mp4")) == 16
    error = capsys.readouterr().err
    assert "the video ended after 1 s: the fake backend fails" in error
    assert "Traceback" not in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    out.symlink_to("/dev/full")
    assert run(out, "--seconds", "2") in (1, 2)
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]


def test_ctrl_c_leaves_a_playable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    before = signal.getsignal(signal.SIGINT)
    assert run(out, "--seconds", "3600") == 130
    timer.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert len(read(out)) >= 8
    assert "(interrupted)" in capsys.readouterr().out


def test_segments_are_endless_and_stop_when_closed() -> None:
    made = segments(FakeBackend(), prompt="red")
    assert [next(made).segment for _ in range(5)] == [0, 1, 2, 3, 4]
    made.close()
    with pytest.raises(BackendError):
        next(segments(FakeBackend(), prompt=FAIL_WORD))
    with pytest.raises(InvalidInput, match="action must be one of"):
        next(segments(FakeBackend(), prompt="x", script=[Entry(0, Action("fly"))]))


# ---- scripts ----


def test_a_script_is_sorted_by_time_and_prompts_may_contain_commas() -> None:
    assert parse_script("", ACTIONS) == []
    text = " 4s:prompt=a fox, red, at 3:00 , 2.5:right,6s:cut=night = day,7s:auto,8s : reset"
    assert parse_script(text, ACTIONS) == [
        Entry(2.5, Action("right")),
        Entry(4, Prompt("a fox, red, at 3:00")),
        Entry(6, Prompt("night = day", how="cut")),
        Entry(7, Action(None)),
        Entry(8, Reset()),
    ]


@pytest.mark.parametrize(
    "text", ["2s", "2s:", "2s:prompt=", "x:right", "2s:right;3s:left", "-1s:left", "2s:=x"]
)
def test_a_bad_script_names_the_entry(text: str) -> None:
    with pytest.raises(InvalidInput, match="--script: "):
        parse_script(text, ACTIONS)


# ---- pictures ----


def encoded(image: Image.Image, format: str = "PNG") -> bytes:
    data = io.BytesIO()
    image.save(data, format)
    return data.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (7, 900), (1000, 300)])
def test_a_picture_of_any_size_is_cropped_and_scaled(format: str, size: tuple[int, int]) -> None:
    pixels = decode_image(encoded(Image.new("RGB", size, (10, 200, 30)), format), 160, 96)
    assert pixels.shape == (3, 96, 160)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.mean((1, 2)), (10, 200, 30), atol=3)


def test_grey_palette_and_transparent_pictures_are_understood() -> None:
    assert decode_image(encoded(Image.new("L", (20, 20), 99)), 8, 8).mean() == 99
    assert decode_image(encoded(Image.new("1", (20, 20), 1)), 8, 8).min() == 255
    assert decode_image(encoded(Image.new("RGBA", (20, 20), (0, 0, 0, 0))), 8, 8).min() == 255
    assert decode_image(encoded(Image.new("P", (20, 20), 0)), 8, 8).shape == (3, 8, 8)
    assert decode_image(encoded(Image.new("I;16", (20, 20), 0x80FF)), 8, 8).max() == 0x80


def test_bombs_and_files_that_are_not_pictures_are_refused() -> None:
    good = encoded(Image.effect_noise((300, 200), 50))
    bomb = encoded(Image.new("1", (8000, 6000)))
    gif = encoded(Image.new("P", (20, 20)), "GIF")
    for data, says in (
        (b"", "not a picture"),
        (b"<svg/>", "not a picture"),
        (gif, "not a picture"),
        (good[: len(good) // 2], "cannot be read"),
        (good[:60] + bytes(200) + good[260:], "cannot be read"),
        (bomb, "8000x6000 pixels, but at most"),
    ):
        with pytest.raises(InvalidInput, match=says):
            decode_image(data, 160, 96)


def test_the_writer_works_without_frames_and_names_a_path_that_it_cannot_write(tmp_path: Path) -> None:
    with Mp4Writer(tmp_path / "none.mp4", width=32, height=32, fps=16):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.mp4").mkdir()
    with pytest.raises(InvalidInput, match="Is a directory"):
        Mp4Writer(tmp_path / "x.mp4", width=32, height=32, fps=16)


def test_a_clip_is_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    assert run(first, "--seconds", "1", "--seed", "7") == 0
    assert run(second, "--seconds", "1", "--seed", "7", "--video", str(first)) == 0
    assert len(read(second)) == 16
    for more, said in (
        (["--video", str(tmp_path / "none.mp4")], "none.mp4 cannot be read"),
        (["--video", str(first), "--image", str(first)], "give --image or --video, not both"),
    ):
        assert run(second, "--seconds", "1", *more) == 2
        assert said in capsys.readouterr().err
