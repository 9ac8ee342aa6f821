"""The export benchmark measures the installed libraries, and the 8-bit denoiser is still accurate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.model.int8 import quantize
from engine.backends.artifact import open_artifact
from export.gates import distance
from export.verify.candidates import pytorch
from export.verify.parity import resized
from export.verify.verify import record_inputs


@pytest.mark.slow
def test_it_prints_ratios_and_errors(tiny_artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = ["export", "--model", str(tiny_artifact), "--rounds", "2", "--batch", "1", "2", "--threads", "1"]
    assert main([*words, "--json", str(out)]) == 0
    data = json.loads(out.read_text())
    assert data["figures"]["PyTorch eager, batch 1, speed"]["value"] == 1
    assert data["figures"]["ONNX Runtime fp32, batch 2, relative error"]["value"] < 10
    assert data["ms"]["ONNX Runtime int8, batch 2"]["n"] == 2


@pytest.mark.slow
def test_without_a_compiler_that_part_is_skipped_with_a_note(
    tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.model.export.compiler", lambda: None)
    words = ["export", "--model", str(tiny_artifact), "--rounds", "1", "--batch", "1", "--compiled"]
    assert main(words) == 0
    data = json.loads(capsys.readouterr().out.splitlines()[-1])
    (note,) = data["notes"]
    assert "there is no C++ compiler (apt install g++)" in note
    assert "PyTorch compiled, batch 1, speed" not in data["figures"]


@pytest.mark.slow
def test_eight_bits_cost_some_accuracy(tiny_artifact: Path, tmp_path: Path) -> None:
    from benchmarks.model.export import session

    artifact = open_artifact(tiny_artifact)
    reference = pytorch(artifact, "fp32")
    given = resized(record_inputs(reference)["denoise"], 2)
    quantize(tiny_artifact / "denoise.onnx", tmp_path / "small.onnx")
    found = distance(session(tmp_path / "small.onnx", 1)(given), reference.run("denoise", given)["velocity"])
    assert 1e-4 < found.rel_l2 < 0.2


def test_bad_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--rounds", "0"]) == 2
    assert "must be at least 1" in capsys.readouterr().err
