"""`psistream bench` against the fake backend: plausible figures, JSON on the last line, clear errors."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import httpx
import pytest

from benchmarks.cli import main
from benchmarks.machine import cpu_seconds, description, resident_bytes, tree
from benchmarks.network.ports import free_port
from benchmarks.report import percentile, summary
from benchmarks.server.subject import own_server
from benchmarks.slopes import WARM_UP
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.waiting import LONG_S


def test_percentiles_lie_between_neighbours() -> None:
    assert percentile([4, 1, 3, 2], 0.5) == 2.5
    assert percentile([7], 0.99) == 7
    assert math.isnan(percentile([], 0.5))
    assert summary(list(range(101))) == {"n": 101, "p50": 50, "p95": 95, "p99": 99, "max": 100}


def test_the_machine_is_named_and_a_process_has_memory() -> None:
    machine = description()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert os.getpid() in tree(os.getpid())
    assert (resident_bytes(os.getpid()) or 0) > 2**20
    assert (cpu_seconds(os.getpid()) or 0) > 0


@pytest.mark.slow
def test_latency_starts_a_server_and_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "latency.json"
    assert (
        main(
            [
                "latency",
                "--backend",
                "fake",
                "--n",
                "1",
                "--joins",
                "1",
                "--warm-up",
                "0.3",
                "--json",
                str(path),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "p95" in out
    report = json.loads(out.strip().splitlines()[-1])
    assert report == json.loads(path.read_text())
    assert report["settings"]["backend"] == "fake"
    for name in ("HTTP, livez", "HTTP, state", "HTTP, page", "HTTP, control", "HTTP, livez, new connection"):
        assert report["ms"][name]["n"] == 10
        assert report["ms"][name]["p50"] > 0
    for name in ("prompt to photon, blend", "prompt to photon, new scene", "action to photon"):
        assert report["ms"][name]["p50"] > 0
    assert report["ms"]["frame interval"]["p50"] > 20
    assert report["ms"]["receipt of a control"]["p50"] < report["ms"]["prompt to photon, blend"]["p50"]
    figures = report["figures"]
    assert figures["state of the session"]["value"] > 1000
    assert figures["start-up, to ready"]["value"] > 0
    assert figures["resident memory, end"]["value"] > 10
    assert figures["generation speed over playback, one viewer"]["value"] > 0


@pytest.mark.slow
def test_a_soak_of_a_running_server_does_not_change_it(capsys: pytest.CaptureFixture[str]) -> None:
    with own_server(FAKE_OPTIONS) as subject:
        assert main(["soak", "--minutes", "0.02", "--warm-up", "0", "--url", subject.target.base]) == 0
        left = httpx.get(f"{subject.target.base}v1/sessions", timeout=LONG_S).json()["sessions"]
    assert [session["id"] for session in left] == ["main"], "its own session is closed again"
    report = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    figures = report["figures"]
    assert figures["state at the start"] == figures["state at the end"]


@pytest.mark.slow
def test_a_short_soak_of_its_own_server_has_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--minutes", "0.02", "--warm-up", "0", "--backend", "fake"]) == 0
    report = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert report["tables"]
    warm_up, few = report["notes"]
    assert warm_up == WARM_UP
    assert few.startswith("0.02 minutes are too few to distinguish growth")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["latency", "--n", "0"], "--n"),
        (["soak", "--minutes", "-1"], "--minutes"),
        (["soak", "--warm-up", "nan"], "--warm-up"),
        (["latency", "--json", "/nowhere/at/all.json"], "--json"),
        (["latency", "--url", "http://127.0.0.1:9", "--backend", "fake"], "--backend"),
        (["latency", "--model", "/nowhere"], "the server did not start"),
    ],
)
def test_bad_input_is_reported_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_missing_server_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", "--url", f"http://127.0.0.1:{free_port()}"]) == 1
    assert "cannot reach" in capsys.readouterr().err
