"""Whatever ends `psistream view --record`, the file is playable: a signal, kill -9, a full disk."""

from __future__ import annotations

import multiprocessing as mp
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import pytest

from benchmarks.server.subject import Subject, own_server
from clients.errors import RecordError
from clients.view.record import CONTAINERS, Recorder
from tests.clients.test_view import STEP, encoded
from tests.rigs.paths import ROOT
from tests.rigs.server.fake_device import FAKE_OPTIONS

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def server() -> Iterator[Subject]:
    with own_server(FAKE_OPTIONS) as subject:
        yield subject


def frames_in(path: Path, cut: bool = False) -> int:
    """The decoded frames. Raises av.FFmpegError if one cannot be decoded, except at the end of a file that
    was `cut`."""
    count = 0
    with av.open(str(path)) as container, suppress(*([av.InvalidDataError] if cut else [])):
        for _ in container.decode(video=0):
            count += 1
    return count


def start(server: Subject, path: Path, terminal: int | None = None) -> subprocess.Popen[bytes]:
    """A `view` that records to `path`."""
    words = [sys.executable, "-m", "server.cli", "view", server.target.base, "--record", str(path)]
    out = subprocess.DEVNULL if terminal is None else terminal
    return subprocess.Popen(
        words, stdin=out, stdout=out, stderr=out, env=ENVIRONMENT, start_new_session=terminal is not None
    )


def await_recording(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not (path.is_file() and path.stat().st_size > 6000):
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_leaves_files_that_play(server: Subject, number: signal.Signals, tmp_path: Path) -> None:
    paths = [tmp_path / f"a{suffix}" for suffix in (".mp4", ".mkv", ".webm")]
    processes = [start(server, path) for path in paths]
    for path, process in zip(paths, processes, strict=True):
        await_recording(path, process)
        process.send_signal(number)
        assert process.wait() == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        assert frames_in(path, cut=number == signal.SIGKILL) > 0
        if number != signal.SIGKILL:
            with av.open(str(path)) as container:
                assert container.duration, "it has its index"


@pytest.mark.slow
def test_a_terminal_that_closes_leaves_a_file_that_plays(server: Subject, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = start(server, tmp_path / "a.mp4", slave)
    await_recording(tmp_path / "a.mp4", process)
    os.close(slave)
    os.close(master)
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGHUP)  # the kernel sends this when the terminal is closed
    process.wait()
    assert frames_in(tmp_path / "a.mp4") > 0


def fill(folder: Path, names: list[tuple[int, str, str]]) -> None:
    """Record until the file has each of these sizes."""
    videos = {codec: encoded(codec, 120) for codec in ("H264", "VP8")}
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size, codec, suffix in names:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        recorder = Recorder(folder / f"{codec}{size}{suffix}")
        with pytest.raises(RecordError, match="File too large"):
            record(recorder, codec, videos[codec])


def record(recorder: Recorder, codec: str, video: list[bytes]) -> None:
    try:
        for i, data in enumerate(video):
            recorder.write(codec, data, i * STEP)
    finally:
        recorder.close()


def test_a_full_disk_is_one_line_and_leaves_a_playable_file(tmp_path: Path) -> None:
    sizes = (0, 60, 200, 1500, 4000)
    names = [
        (size, codec, suffix)
        for size in sizes
        for codec in ("H264", "VP8")
        for suffix in CONTAINERS
        if size < 3000 or codec in CONTAINERS[suffix]
    ]
    process = mp.get_context("spawn").Process(target=fill, args=(tmp_path, names))  # limits are per process
    process.start()
    process.join()
    assert process.exitcode == 0
    for codec, suffix in (("H264", ".mp4"), ("H264", ".mov"), ("H264", ".mkv"), ("VP8", ".webm")):
        assert frames_in(tmp_path / f"{codec}4000{suffix}") > 0
