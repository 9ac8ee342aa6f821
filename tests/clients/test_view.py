"""`psistream view` against a real server process with the fake backend: figures, recordings, clear errors."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from rich.console import Console

from benchmarks.network.ports import free_port
from benchmarks.server.subject import Subject, own_server
from clients.adapter.receiver import EncodedFrame, tap
from clients.errors import ViewError
from clients.target import Target
from clients.view.command import SILENCE_S, Figures, main, table
from clients.view.record import CONTAINERS, Recorder, is_keyframe, preferred_codecs
from clients.view.steering import SentControls
from clients.whep import WhepViewer
from engine.errors import InvalidInput
from tests.rigs.server.fake_device import FAKE_OPTIONS

STEP = 90_000 // 16


@pytest.fixture(scope="module")
def server() -> Iterator[Subject]:
    with own_server([*FAKE_OPTIONS, "--prompt", "a red ball rolls right"]) as subject:
        yield subject


def encoded(codec: str, frames: int = 24) -> list[bytes]:
    """A short video that starts with a keyframe."""
    name = {"H264": "libx264", "VP8": "libvpx"}[codec]
    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 160, 96, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 90_000), Fraction(16)
    context.options = (
        {"tune": "zerolatency"} if codec == "H264" else {"deadline": "realtime", "lag-in-frames": "0"}
    )
    packets: list[bytes] = []
    for i in range(frames):
        frame = av.VideoFrame.from_ndarray(np.full((96, 160, 3), 8 * i % 256, np.uint8), format="rgb24")
        frame.pts = i * STEP
        packets += [bytes(p) for p in context.encode(frame)]
    return packets


def look(path: Path) -> tuple[float, int, str]:
    """Duration, decoded frames and codec of a file."""
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
        assert container.duration is not None
        return container.duration / av.time_base, frames, container.streams.video[0].codec_context.name


@pytest.mark.parametrize("codec", ["H264", "VP8"])
@pytest.mark.parametrize("suffix", list(CONTAINERS))
def test_every_container_plays_and_has_the_right_duration(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    packets = encoded(codec)
    assert is_keyframe(codec, packets[0])
    assert not is_keyframe(codec, packets[1])
    recorder = Recorder(path)
    start = 2**32 - 3 * STEP  # the 32-bit clock wraps on the way
    for i, data in enumerate([packets[1], *packets]):  # the first can't be shown without a keyframe
        recorder.write(codec, data, (start + (i - 1) * STEP) % 2**32)
    recorder.close()
    recorder.close()
    copied = codec in CONTAINERS[suffix]
    assert recorder.mode == ("copied" if copied else "encoded again")
    duration, frames, _ = look(path)
    assert frames == len(packets) == recorder.frames
    assert duration == pytest.approx(len(packets) / 16, abs=0.02)
    if copied:
        with av.open(str(path)) as container:
            sizes = [packet.size for packet in container.demux(video=0) if packet.size]
        assert sum(sizes) <= sum(map(len, packets)) + 8 * len(packets)


def test_a_recording_has_the_requested_length_even_over_a_gap(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "out.mp4", seconds=1.0)
    for i, data in enumerate(encoded("H264")):
        recorder.write("H264", data, (i if i < 4 else i + 4) * STEP)  # a quarter of a second is lost
        if recorder.full:
            break
    recorder.close()
    assert recorder.seconds == 1.0
    assert look(tmp_path / "out.mp4")[0] == pytest.approx(1.0, abs=0.005)


def test_mp4_has_its_parameter_sets_where_players_look_for_them(tmp_path: Path) -> None:
    """A file whose avcC box is empty plays only in ffmpeg."""
    recorder = Recorder(tmp_path / "out.mp4")
    for i, data in enumerate(encoded("H264")):
        recorder.write("H264", data, i * STEP)
    recorder.close()
    box = (tmp_path / "out.mp4").read_bytes().partition(b"avcC")[2]
    assert box[0] == 1
    assert box[5] & 0x1F == 1, "one SPS"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out.avi", ".mp4"),
        ("nowhere/out.mp4", "nowhere/out.mp4: No such file"),
        ("folder.mp4", "folder.mp4: Is a directory"),
    ],
)
def test_a_bad_file_name_is_refused_before_anything_is_opened(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InvalidInput, match=said):
        preferred_codecs(tmp_path / name)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8080", Target("http://localhost:8080/", "main", None)),
        ("http://h:1/?session=a%20b#token=t&view=v", Target("http://h:1/", "a b", "t")),
        ("https://h/live/index.html", Target("https://h/live/", "main", None)),
    ],
)
def test_urls_and_page_links_say_what_to_watch(url: str, expected: Target) -> None:
    assert Target.parse(url) == expected
    assert Target.parse(url, "other", "tok") == Target(expected.base, "other", "tok")


@pytest.mark.parametrize("url", ["ftp://x", "http://", "", "http://h:port"])
def test_an_invalid_address_is_reported(url: str) -> None:
    with pytest.raises(InvalidInput, match="is not an address"):
        Target.parse(url)


def test_records_an_mp4_of_the_right_length(
    server: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.mp4"
    assert main([server.target.base, "--record", str(path), "--seconds", "2"]) == 0
    duration, frames, codec = look(path)
    assert codec == "h264"
    assert duration == pytest.approx(2.0, abs=0.05)
    assert 1 < frames <= 32, "a busy server shows fewer frames, but not more"
    said = capsys.readouterr().out
    assert f"2.00 s, {frames} frames" in " ".join(said.split())  # it wraps long lines
    assert "copied" in said
    assert "a red ball rolls right" in said


def test_watches_without_a_file_and_ends_by_itself(
    server: Subject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([server.target.base, "--seconds", "0.8"]) == 0
    said = capsys.readouterr().out
    assert "fps" in said
    assert "bytes" in said


async def test_frames_are_complete_at_their_marker(server: Subject) -> None:
    """Unmodified aiortc outputs a frame only when the next one begins: 62 ms late at 16 fps."""
    viewer = WhepViewer(server.target, codecs=("VP8",))
    came: list[tuple[str, EncodedFrame]] = []
    shown: list[int] = []
    viewer.on_encoded = lambda codec, frame: came.append((codec, frame))
    viewer.on_picture = lambda picture: shown.append(picture.rtp_timestamp)
    async with viewer:
        await viewer.ready()
        viewer.send({"type": "ping", "id": "x"})
    assert {codec for codec, _ in came} == {"VP8"}
    assert shown[0] == came[0][1].rtp_timestamp
    with pytest.raises(RuntimeError, match="aiortc"):
        tap(object(), lambda _: None)  # type: ignore[arg-type]


def test_bad_input_is_reported_in_one_line(server: Subject, tmp_path: Path) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    for arguments, said, status in (
        ([closed], "cannot reach", 1),
        ([server.target.base, "--session", "nobody"], "no session", 2),
        ([server.target.base, "--seconds", "0"], "--seconds", 2),
        ([server.target.base, "--record", str(tmp_path / "a.gif")], ".mp4", 2),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "server.cli", "view", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


async def test_a_first_picture_that_the_device_is_at_work_on_is_waited_for() -> None:
    viewer = WhepViewer(Target.parse("http://localhost:1"))
    told = {"buffering": {"speed": 0.04, "rate": 0.2, "resumes_in_s": 30}}
    for standing in ({**told, "paused": False}, {"buffering": None, "paused": True}):
        viewer.hear(json.dumps({"type": "session", **standing}))
        waiting = asyncio.create_task(viewer.ready(0.5))
        for _ in range(12):
            viewer.hear('{"type": "pong"}')
            await asyncio.sleep(0.05)
        assert not waiting.done()
        viewer.hear('{"type": "session", "buffering": null, "paused": false}')
        with pytest.raises(ViewError, match="no frame arrived"):
            await waiting


async def test_view_gives_up_on_a_server_that_went_silent_while_buffering() -> None:
    viewer = WhepViewer(Target.parse("http://localhost:1"))
    viewer.hear('{"type": "session", "buffering": {"speed": 0.04, "rate": 0.2, "resumes_in_s": 30}}')
    with pytest.raises(ViewError, match="no frame arrived"):
        await viewer.ready(0.01)


@pytest.mark.parametrize("why", [{"paused": True}, {"buffering": {"resumes_in_s": 90}}])
def test_a_stall_or_pause_does_not_count_as_silence(why: dict[str, Any]) -> None:
    figures = Figures()
    now_s = figures.last_s
    later_s = now_s + 2 * SILENCE_S
    assert "no frame" in figures.silence(later_s, later_s)
    figures.message({"type": "session", **why})
    assert figures.silence(later_s, later_s) == ""
    assert "no answer" in figures.silence(later_s, now_s)
    figures.last_s = now_s - 2 * SILENCE_S  # the stall lasted this long
    figures.message({"type": "session", "paused": False, "buffering": None})
    assert figures.silence(figures.last_s + 1, now_s) == ""
    assert figures.last_s >= now_s
    assert "no frame" in figures.silence(figures.last_s + 2 * SILENCE_S, later_s)


def test_a_slow_device_is_shown_and_a_fast_one_is_not() -> None:
    def said(session: dict[str, Any], segment: dict[str, Any]) -> str:
        figures = Figures()
        figures.message({"type": "session", **session})
        figures.message({"type": "segment", **segment})
        console = Console(width=100, file=io.StringIO())
        console.print(table(figures, WhepViewer(Target.parse("http://localhost:1")), None, SentControls([])))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    assert "slower" not in said({}, {"rate": 1.0, "speed": 5.3})
    assert "slower than the video: slow motion, 0.48×" in said({}, {"rate": 0.48})
    assert "buffering, resumes in about 9 s" in said({"buffering": {"resumes_in_s": 8.1}}, {"rate": 0.2})
