"""The self-test runs the available parts, lists the missing ones, and fails only for errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from engine.backends.artifact import Artifact
from engine.backends.base import Backend
from engine.backends.gpu.driver import cuda_device
from engine.errors import Unavailable
from export.cli import main
from export.verify import selftest
from export.verify.candidates import candidate, pytorch
from export.verify.parity import broken, permute

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the export is made in whichever test comes first


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without GPU and without TensorRT."""
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)

    def none() -> None:
        raise Unavailable("no CUDA driver on this machine")

    cuda_device.cache_clear()
    monkeypatch.setattr(selftest, "cuda_device", none)


@pytest.mark.usefixtures("bare")
def test_without_a_gpu_it_does_its_cpu_part_and_says_what_was_not_executed(
    tiny_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    words = ["selftest", str(tiny_artifact), "--segments", "2", "--batch", "2", "--json", str(out)]
    assert main(words) == 0
    table = capsys.readouterr().out.partition("```")[2]
    assert "onnxruntime: parity          ok" in table
    assert "TensorRT                     not here       tensorrt cannot be imported" in table
    assert "tensorrt backend             not executed   no CUDA device" in table
    data = json.loads(out.read_text())
    assert data["onnxruntime parity"]["level"] == "parity"
    assert {"denoise x1", "squeeze x2"} <= set(data["onnxruntime ms"])


@pytest.mark.usefixtures("bare")
def test_a_backend_that_is_wrong_makes_it_fail(
    tiny_artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(name: str, artifact: Artifact) -> Backend:
        assert candidate(name, artifact).name == "onnxruntime"
        return broken(pytorch(artifact, "fp32"), "denoise", permute)

    assert selftest.run(tiny_artifact, segments=1, batch=1, load=wrong) == 1
    assert "onnxruntime: parity: FAILED denoise velocity" in capsys.readouterr().out
