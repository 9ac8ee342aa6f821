"""`psistream evaluate`: one clear line for every mistake, and a whole run of one figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engine.commands.evaluate import main
from engine.errors import ModelFilesError
from engine.evaluation.bench import check_world
from engine.evaluation.instruments import landmark_reader as reader
from engine.evaluation.instruments import probe
from tests.rigs.engine.fakes import TINY_SPEC


@pytest.fixture
def instruments(tmp_path: Path) -> Path:
    """A run folder with an untrained probe and landmark reader."""
    torch.manual_seed(0)
    accuracy = {"place": 0.5, "place clean": 0.6}
    torch.save({"state": probe.Probe().state_dict(), "accuracy": accuracy}, tmp_path / probe.FILE)
    torch.save(
        {"state": reader.LandmarkReader().state_dict(), "accuracy": {"found": 0.1}}, tmp_path / reader.FILE
    )
    return tmp_path


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--figures", "adherance"], "'adherance' is unknown; choose from adherence"),
        (["--figures", "elo"], "name the others with --against DIR"),
        (["--n", "0"], "--n must be at least 1"),
        (["--durations", "10,soon"], "--durations: '10,soon' is not a list of numbers from 5"),
        (["--steps", "0"], "--steps: '0' is not a list of numbers from 1"),
        (["--backend", "fake"], "invalid choice: 'fake'"),
        (["--figures", "vbench", "--vbench", "/nowhere/vbench"], "pip install torch torchvision vbench"),
    ],
)
def test_bad_input_is_one_clear_line(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("psistream evaluate: ")
    assert said in error
    assert "Traceback" not in error


def test_missing_instruments_are_named_with_the_command_that_makes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", str(tmp_path), "--figures", "obedience"]) == 2
    assert f"psistream train probe --run {tmp_path}" in capsys.readouterr().err


def test_only_recall_needs_the_landmark_reader(instruments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (instruments / reader.FILE).unlink()
    assert main(["--run", str(instruments), "--figures", "recall"]) == 2
    error = capsys.readouterr().err
    assert reader.FILE in error
    assert "psistream train probe" in error


def test_a_missing_model_is_named(instruments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(instruments), "--figures", "steps", "--model", "/nowhere/model"]) == 2
    assert "/nowhere/model" in capsys.readouterr().err


def test_a_model_of_another_world_is_refused() -> None:
    with pytest.raises(ModelFilesError, match="evaluate needs a model of the built-in world"):
        check_world("tiny", TINY_SPEC)


@pytest.mark.slow
def test_the_built_in_model_is_measured_and_the_report_names_the_instruments(
    instruments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--run", str(instruments), "--figures", "steps", "--n", "1", "--steps", "1", "--threads", "1"]
    assert main(args) == 0
    out = instruments / "evaluation"
    found = json.loads((out / "report.json").read_text())
    assert found["model"] == "wander"
    assert set(found["made with"]) == {"model", "backend", "probe", "landmark reader"}
    assert found["probe, on clean rendered frames"] == {"place": 0.6}
    assert "reads place correctly in less than 99 %" in found["warnings"][0]
    (adherence, fidelity) = found["figures"]["steps"]["tables"]
    assert 0 <= adherence["rows"]["1 steps"]["all named"]["value"] <= 1
    assert fidelity["rows"]["1 steps"]["distance"]["value"] > 0
    assert (out / "steps.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "| 1 steps |" in printed
