"""`psistream bench hostile` and `bench failover` against the fake backend."""

from __future__ import annotations

import json

import pytest

from benchmarks.cli import main
from benchmarks.server.attackers import ATTACKS
from benchmarks.server.hostile import shortfalls

QUIET = {"beside it": "nobody", "frame p99": 100.0, "longest gap": 120.0, "livez p99": 3.0}


def report_of(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    report: dict[str, object] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return report


@pytest.mark.slow
def test_a_victim_is_measured_beside_attackers_that_work(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["hostile", "--backend", "fake", "--seconds", "2", "--attacker-cores", "0"]
    attackers = ["picture bombs", "clients that hang up", "a flood of the broker"]
    assert main([*words, *(word for name in attackers for word in ("--only", name))]) == 0
    report = report_of(capsys)
    (rows,) = report["tables"].values()  # type: ignore[attr-defined]
    assert [row["beside it"] for row in rows] == ["nobody", *attackers]
    assert rows[0]["attacker, % of a core"] == 0
    for row in rows:
        assert 0 < row["frame p50"] <= row["frame p99"] <= row["longest gap"]
        assert 0 < row["livez p50"] <= row["livez p99"]
        assert row["server, MiB"] > 10
    assert all(row["attacker, % of a core"] > 0 for row in rows[1:])
    assert report["notes"]


@pytest.mark.slow
def test_a_killed_worker_is_replaced_while_a_viewer_watches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["failover", "--backend", "fake", "--n", "1", "--spare", "on"]) == 0
    report = report_of(capsys)
    assert report["ms"]["picture stalls after kill -9"]["n"] == 1  # type: ignore[index]


def test_goals_that_were_missed_are_named() -> None:
    well = {**QUIET, "beside it": "a flood"}
    assert shortfalls([QUIET, well]) == ["every goal was met"]
    bad = {"beside it": "gaps", "frame p99": 140.0, "longest gap": 300.0, "livez p99": 70.0}
    assert shortfalls([QUIET, well, bad]) == [
        "gaps: frame p99 1.4× that without attackers, a gap of 300 ms, /livez p99 70 ms"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hostile", "--only", "nonsense"], next(iter(ATTACKS))),
        (["hostile", "--seconds", "0"], "--seconds"),
        (["hostile", "--attacker-cores", "x"], "--attacker-cores"),
        (["failover", "--n", "0"], "--n"),
    ],
)
def test_bad_input_is_reported_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--backend", "fake"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
