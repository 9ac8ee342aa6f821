"""Whatever signal ends `generate`, what it wrote plays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from tests.rigs.paths import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def generating(path: Path) -> subprocess.Popen[str]:
    program = "import sys; from engine.commands.generate import main; sys.exit(main(sys.argv[1:]))"
    words = ["--prompt", "a red ball", "--out", str(path), "--seconds", "3600", "--backend", "fake"]
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def until_larger(path: Path, size: int, process: subprocess.Popen[str]) -> None:
    while not (path.is_file() and path.stat().st_size > size):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_the_file(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    process = generating(path)
    until_larger(path, 20_000, process)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 130
    assert frames_in(path) > 0
