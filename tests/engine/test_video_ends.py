"""However `generate` and `replay` end, the file that they wrote is playable."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import Unavailable
from engine.video import Mp4Writer
from tests.engine.runtime.session.edited import lines
from tests.rigs.paths import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
GENERATE = ("generate", "--prompt", "a red ball", "--seconds", "3600")


def frames_in(path: Path, cut: bool = False) -> int:
    """Raises av.FFmpegError for a frame that cannot be decoded, except at the end of a file that was
    `cut`."""
    count = 0
    with av.open(str(path)) as container, suppress(*([av.InvalidDataError] if cut else [])):
        for _ in container.decode(video=0):
            count += 1
    return count


def command(*words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "server.cli", *words, "--backend", "fake"]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT)


def until_larger(path: Path, size: int, process: subprocess.Popen[str]) -> None:
    while not (path.is_file() and path.stat().st_size > size):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)


def writing(what: str, folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """A command that writes for an hour, and its file, which has some seconds of video."""
    out, log = folder / "a.mp4", folder / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, lines())))
    words = {"generate": GENERATE, "replay": ("replay", str(log), "--segments", "9000", "--scale", "4")}
    process = command(*words[what], "--out", str(out))
    until_larger(out, 60_000, process)
    return process, out


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("generate", signal.SIGINT),
        ("generate", signal.SIGTERM),
        ("generate", signal.SIGHUP),
        ("replay", signal.SIGTERM),  # both commands are run, and stopped, by the same code
    ],
)
def test_a_signal_finishes_the_file(what: str, number: signal.Signals, tmp_path: Path) -> None:
    process, path = writing(what, tmp_path)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 130
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == frames_in(path) > 0, "an ordinary file, with its index"


@pytest.mark.parametrize("what", ["generate", "replay"])
def test_a_killed_process_leaves_all_but_the_last_fragment(what: str, tmp_path: Path) -> None:
    process, path = writing(what, tmp_path)
    process.kill()
    process.communicate()
    assert frames_in(path, cut=True) >= 8


def fill(folder: Path, sizes: list[int]) -> None:
    """Write noise up to each of these sizes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in sizes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        with pytest.raises(Unavailable, match="File too large"):
            write(folder / f"{size}.mp4")


def write(path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3), dtype=np.uint8)
    with Mp4Writer(path, width=32, height=32, fps=16) as writer:
        for picture in pictures:
            writer.add(picture)


def test_a_full_disk_is_one_line_and_leaves_a_playable_file(tmp_path: Path) -> None:
    sizes = [0, 20, 40, 60, 90, 120, *range(200, 20_000, 900)]
    process = mp.get_context("spawn").Process(target=fill, args=(tmp_path, sizes))  # the limit is a process's
    process.start()
    process.join()
    assert process.exitcode == 0
    lengths = [frames_in(tmp_path / f"{size}.mp4") for size in sizes if size > 10_000]
    assert lengths == sorted(lengths)
    assert lengths[0] > 0
