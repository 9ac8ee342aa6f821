"""`psistream bench step --model helios --random`, at a tiny size on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cli
from benchmarks.server.pretend import TFLOP, costs, pretended
from engine.backends.registry import load_backend
from engine.model.helios.config import HeliosConfig
from engine.model.helios.cost import call_flop

WORDS = ["step", "--model", "helios", "--random"]


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return data


@pytest.mark.slow
def test_a_tiny_helios_is_timed_stage_by_stage_and_segment_by_segment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([*WORDS, "tiny", "--batches", "1,2", "--n", "1"]) == 0
    tables = last_line(capsys)["tables"]
    calls, segments = tables["one call"], tables["a segment"]
    assert [(row["stage"], row["rows"]) for row in calls] == [(s, b) for b in (1, 2) for s in (0, 1, 2)]
    assert [row["tokens"] for row in calls[:3]] == [98, 152, 368]
    assert [row["calls"] for row in segments] == 2 * ["1,1,1", "2,2,1", "2,2,2"]
    for row in segments[:3]:
        plan = [int(n) for n in str(row["calls"]).split(",")]
        expected = sum(n * call["ms"] for n, call in zip(plan, calls[:3], strict=True))
        assert row["denoise ms"] == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_the_full_size_runs_on_fake_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "fake", "--batches", "1"]) == 0
    data = last_line(capsys)
    rows = data["tables"]["one call"]
    assert [row["output"] for row in rows] == [
        "1 x 9 x 16 x 12 x 20",
        "1 x 9 x 16 x 24 x 40",
        "1 x 9 x 16 x 48 x 80",
        "1 x 33 x 3 x 384 x 640",
        "1 x 33 x 3 x 384 x 640",
    ]
    assert data["figures"]["weights of the transformer"]["value"] == pytest.approx(26.7, abs=0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["step", "--random"], "--random needs --model helios"),
        (["step", "--model", "helios"], "needs --weights too"),
        ([*WORDS, "tiny", "--height", "480"], "multiples of 64 pixels"),
    ],
)
def test_invalid_settings_are_reported(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err


def test_functions_of_a_model_in_stages_are_timed_like_any_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A segment is two calls of each stage and a decode."""
    (tmp_path / "fake.json").write_text('{"shape": "helios"}')
    assert (
        cli.main(["step", "--backend", "fake", "--model", str(tmp_path), "--batches", "1", "--n", "2"]) == 0
    )
    data = last_line(capsys)
    rows = {row["function"]: row["per row"] for row in data["tables"]["milliseconds"]}
    expected = sum(2 * rows[f"denoise_{k}"] for k in range(3)) + rows["decode"]
    segment = data["figures"]["segment of one session, 1 in a batch"]["value"]
    assert segment == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attention", "sage"], "sage needs a CUDA device"),
        (["--attention", "fast"], "'fast' is not one of sdpa, flash3, sage"),
        (["--how", "graphs"], "needs a CUDA device"),
    ],
)
def test_what_this_device_lacks_is_told(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*WORDS, "tiny", "--n", "1", *words]) != 0
    assert message in capsys.readouterr().err


def test_a_pretended_segment_takes_its_seconds() -> None:
    found = costs(2.4)
    calls = 2 * sum(found[f"denoise_{k}"][0] for k in range(3))
    assert calls + found["decode"][0] == pytest.approx(2.4)
    assert [round(call_flop(HeliosConfig(), k) / 1e12, 1) for k in range(3)] == list(TFLOP)
    with pretended(0.5) as folder:
        assert load_backend("fake", folder).spec.name == "fake-helios"
    assert not folder.exists()


@pytest.mark.parametrize(
    "words", [["--pretend", "0"], ["--pretend", "x"], ["--pretend", "1", "--model", "y"]]
)
def test_what_cannot_be_pretended_is_refused(words: list[str]) -> None:
    assert cli.main(["latency", *words]) == 2
