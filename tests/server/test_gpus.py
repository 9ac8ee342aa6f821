"""The number of workers, and the GPU that each one sees."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidInput
from server.arguments import parser, settings
from server.config import ServerConfig
from server.gateway.fleet.makers import worker_makers
from server.gpus import VISIBLE, gpus

LISTED = """\
GPU 0: NVIDIA H200 (UUID: GPU-11111111-2222-3333-4444-555555555555)
  MIG 1g.18gb Device 0: (UUID: MIG-99999999-2222-3333-4444-555555555555)
GPU 1: NVIDIA H200 (UUID: GPU-66666666-2222-3333-4444-555555555555)
"""


def config(*options: str) -> ServerConfig:
    return settings(parser().parse_args([*options]))


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only folder where programs are found; it has no nvidia-smi."""
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_one_per_gpu_that_nvidia_smi_lists(programs: Path) -> None:
    tool = programs / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n[ \"$*\" = -L ] && printf '%s' '{LISTED}'\n")
    tool.chmod(0o755)
    found = config("--workers", "auto", "--backend", "tensorrt")
    assert found.workers == 2
    seen = [maker.args[0].gpu for maker in worker_makers(found) if isinstance(maker, partial)]
    assert [gpu[:12] for gpu in seen] == ["GPU-11111111", "GPU-66666666"]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("0,3", ("0", "3")), ("MIG-a, MIG-b", ("MIG-a", "MIG-b")), ("", ()), ("-1", ())],
)
def test_gpus_named_in_the_environment_count(
    visible: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, visible)
    assert gpus() == expected
    assert config("--workers", "auto", "--backend", "cuda").workers == max(1, len(expected))


def test_more_workers_than_gpus_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "4,5")
    makers: list[Any] = worker_makers(config("--workers", "3", "--backend", "cuda"))
    assert [maker.args[0].gpu for maker in makers] == ["4", "5", "4"]


def test_without_a_gpu_there_is_one_worker_unless_more_are_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config().workers == config("--workers", "auto").workers == 1
    assert config("--workers", "2").workers == 2
    monkeypatch.setenv(VISIBLE, "0,1")
    assert config("--workers", "auto").workers == 1, "the built-in model runs on the processor"
    makers: list[Any] = worker_makers(config("--backend", "cuda"))
    assert [maker.args[0].gpu for maker in makers] == [None]


@pytest.mark.parametrize("count", ["0", "-1", "65", "many", "1.5", "٣"])
def test_a_number_that_makes_no_sense_is_named(count: str) -> None:
    with pytest.raises(InvalidInput, match="must be auto or 1 to 64"):
        config(f"--workers={count}")


def test_threads_of_one_process_cannot_have_a_gpu_each() -> None:
    with pytest.raises(InvalidInput, match="needs --worker process"):
        config("--workers", "2", "--worker", "thread")
