"""Every command reports an unusable path as one line with the path and the reason, and exits with 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server import cli
from tests.rigs.paths import ROOT

FAKE = ("--backend", "fake")
GENERATE = ("generate", "--prompt", "a fox", "--seconds", "0.5", *FAKE)
HEADLESS = ("view", "http://127.0.0.1:9")


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    """Names in the command lines below → unusable paths."""
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)) * 64)
    (tmp_path / "binary.toml").write_bytes(bytes(range(128, 256)))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_bytes(b"\xff\xfe{")
    (tmp_path / "broken" / "config.json").write_bytes(b"\xff\xfe{")
    (tmp_path / "empty").mkdir()
    return {
        "{binary}": str(tmp_path / "binary"),
        "{toml}": str(tmp_path / "binary.toml"),
        "{broken}": str(tmp_path / "broken"),
        "{empty}": str(tmp_path / "empty"),
        "{folder}": str(tmp_path / "folder.mp4"),
        "{missing}": str(tmp_path / "nowhere" / "x.mp4"),
        "{beside}": str(tmp_path / "binary" / "x.mp4"),  # below a file
        "{readonly}": "/proc/version",
        "{new}": str(tmp_path / "new"),
    }


UNUSABLE = [
    (*GENERATE, "--out", "{missing}"),
    (*GENERATE, "--out", "{folder}"),
    (*GENERATE, "--out", "{beside}"),
    (*GENERATE, "--out", "{readonly}"),
    (*GENERATE, "--out", "{new}.mp4", "--image", "{binary}"),
    (*GENERATE, "--out", "{new}.mp4", "--image", "{missing}"),
    (*GENERATE, "--out", "{new}.mp4", "--image", "{empty}"),
    ("generate", "--prompt", "x", "--out", "{new}.mp4", "--model", "{missing}"),
    ("generate", "--prompt", "x", "--out", "{new}.mp4", "--model", "{empty}"),
    ("generate", "--prompt", "x", "--out", "{new}.mp4", "--model", "{broken}"),
    ("generate", "--prompt", "x", "--out", "{new}.mp4", "--weights", "{missing}"),
    ("replay", "{missing}"),
    ("replay", "{empty}"),
    ("replay", "{binary}", *FAKE),
    ("replay", "{binary}", "--out", "{missing}"),
    ("serve", "--port", "0", "--worker", "thread", "--mqtt", "off", "--model", "{missing}"),
    ("serve", "--port", "0", "--worker", "thread", "--mqtt", "off", "--model", "{broken}"),
    ("serve", "--port", "0", "--worker", "thread", "--mqtt", "off", *FAKE, "--image", "{binary}"),
    ("serve", "--port", "0", "--worker", "thread", "--mqtt", "off", *FAKE, "--image", "{missing}"),
    (*HEADLESS, "--record", "{missing}"),
    (*HEADLESS, "--record", "{folder}"),
    (*HEADLESS, "--save", "{missing}"),
    (*HEADLESS, "--save", "{readonly}"),
    (*HEADLESS, "--from", "{missing}"),
    (*HEADLESS, "--from", "{empty}"),
    ("model", "info", "{missing}"),
    ("model", "info", "{broken}"),
    ("convert", "framepack-f1", "{missing}", "{new}"),
    ("convert", "framepack-f1", "{broken}", "{new}"),
    ("export", "onnx", "--out", "{beside}"),
    ("export", "onnx", "--out", "{new}", "--from", "{broken}"),
    ("export", "onnx", "--out", "{new}", "--run", "{missing}"),
    ("export", "onnx", "--out", "{new}", "--model", "framepack-f1", "--weights", "{missing}"),
    ("export", "tensorrt", "{missing}"),
    ("export", "tensorrt", "{broken}"),
    ("export", "fp8", "{missing}"),
    ("export", "upgrade", "{missing}"),
    ("export", "upgrade", "{broken}"),
    ("export", "verify", "{broken}"),
    ("export", "inspect", "{missing}"),
    ("export", "inspect", "{binary}"),
    ("export", "inspect", "{broken}"),
    ("export", "inspect", "{empty}"),
    ("export", "selftest", "{broken}"),
    ("export", "selftest", "--json", "{missing}"),
    ("train", "{toml}"),
    ("train", "{missing}.toml"),
    ("train", "text", "--recipe", "{toml}"),
    ("train", "text", "--run", "{beside}"),
    ("train", "dit", "--run", "{empty}", "--steps", "1"),
    ("train", "variants", "--run", "{empty}"),
    ("train", "variants", "--run", "{empty}", "--plan", "{toml}"),
    ("evaluate", "--run", "{empty}"),
    ("evaluate", "--model", "{broken}", "--figures", "steps", "--run", "{empty}"),
    ("bench", "step", *FAKE, "--json", "{missing}"),
    ("bench", "soak", *FAKE, "--segments", "100", "--plot", "{folder}"),
    ("bench", "step", "--model", "{missing}"),
    ("bench", "load", "--model", "{broken}"),
    ("bench", "export", "--model", "{broken}"),
]


@pytest.mark.parametrize("words", UNUSABLE, ids=" ".join)
def test_an_unusable_path_is_one_line_with_path_and_reason(
    words: tuple[str, ...], paths: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    def filled(word: str) -> str:
        for name, path in paths.items():
            word = word.replace(name, path)
        return word

    named = [filled(word) for word in words if "{" in word][-1]
    assert cli.main([filled(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"psistream {words[0]}: ")
    assert named in error or str(Path(named).parent) in error
    assert len(error.splitlines()[0]) > len(f"psistream {words[0]}: ") + 20
    assert "Traceback" not in error


def psistream(words: str, stdout: int, unbuffered: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server.cli", *words.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, check=False
    )


TALKATIVE = ["--help", "generate --help", "view --help"]  # by print, by argparse, and by a client


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", TALKATIVE)
def test_a_full_disk_under_standard_output_is_one_line(words: str, unbuffered: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = psistream(words, full, unbuffered)
    finally:
        os.close(full)
    assert done.returncode == 1
    assert done.stderr.endswith(": standard output: No space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", TALKATIVE)
def test_a_closed_pipe_ends_a_command_silently(words: str, unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = psistream(words, write, unbuffered)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_under_a_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "step", *FAKE, "--n", "1", "--batches", "1", "--json", "/dev/full"]) == 1
    assert capsys.readouterr().err == "psistream bench: /dev/full: No space left on device\n"
