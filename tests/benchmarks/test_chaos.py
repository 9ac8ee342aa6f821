"""`psistream bench chaos`: what it counts, what it refuses, and a short run."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos.faults import KINDS, sequence
from benchmarks.chaos.figures import FaultRecord, add, prompt_figures, rows
from benchmarks.chaos.prompter import SentPrompt
from benchmarks.cli import main
from benchmarks.server.reader import WRAP, Seen


def seen(*frames: float, epochs: tuple[int, ...] = (0, 0)) -> Seen:
    """Frames at these times, one per 1/16 s of media time, and a segment every second from 0 on."""
    told = Seen(frames=[(at, (WRAP - 3 + round(at * 90_000)) % WRAP) for at in frames])
    told.segments = [(float(n), {"frame": 8 * n, "epoch": epoch}) for n, epoch in enumerate(epochs)]
    return told


def test_a_gap_counts_where_the_session_moved_or_stood_still() -> None:
    moved, still = seen(0.9, 1.0, 1.5, 1.6, epochs=(0, 0, 1)), seen(*[n / 16 for n in range(48)])
    frozen = seen(0.5, 2.4, 2.5)
    record = FaultRecord("kill", "w1", 1.0, 2.6, 1.2)
    for each in (moved, still, frozen):
        add(record, each, 16, everybody=False)
    assert [round(gap, 3) for gap in record.gaps_s] == [1.0, 1.4]
    assert record.missed == 15 + 21
    (row,) = rows([record])
    assert (row["fault"], row["n"], row["noticed s"], row["sessions"]) == ("kill", 1, 0.2, 2)
    assert (row["worst"], row["shown twice"], row["times back"]) == (1.4, 0, 0)


def test_frames_that_come_again_and_times_that_go_back_are_counted() -> None:
    told = seen(0.5, 0.6, 0.55, 0.7)
    told.segments = [
        (0.1, {"frame": 8, "epoch": 0}),
        (0.2, {"frame": 16, "epoch": 0}),
        (0.3, {"frame": 8, "epoch": 1}),
    ]
    assert told.backwards(0.0, 1.0) == 1
    assert told.repeated(0.0, 1.0) == 9


def test_the_readers_notice_of_a_lost_gateway_counts() -> None:
    told = seen(0.5, 3.0)
    told.lost_s = [0.2, 2.0]
    record = FaultRecord("gateway", "w1", 1.0, 4.0, None)
    add(record, told, 16, everybody=True)
    assert record.noticed_s == 2.0


def test_a_prompt_is_lost_without_a_receipt_and_useless_without_an_effect() -> None:
    prompts = [
        SentPrompt("p0", "a", 0.0, "applied", None, 0.5, in_effect=True),
        SentPrompt("p1", "b", 1.0, "applied", None, 2.0),
        SentPrompt("p2", "c", 2.0, "rejected", "superseded", 3.0),
        SentPrompt("p3", "d", 3.0, "received"),
    ]
    told = Seen()
    told.answers["p0"] = [{"status": "applied"}, {"status": "applied"}]
    told.answers["p1"] = [{"status": "applied"}]
    figures = {name: value for name, (value, _) in prompt_figures(prompts, [told]).items()}
    assert figures == {
        "prompts without a final receipt": 1,
        "prompts rejected": 1,
        "prompts applied, but not in effect": 1,
        "final receipts that came twice": 1,
        "sent to applied, p50": 750.0,
        "sent to applied, worst": 1000.0,
    }


def test_the_seed_decides_the_order_and_every_fault_has_its_turn() -> None:
    def first(seed: int) -> list[str]:
        return list(itertools.islice(sequence(list(KINDS), seed), 3 * len(KINDS)))

    assert first(1) == first(1) != first(2)
    for start in range(0, 3 * len(KINDS), len(KINDS)):
        assert sorted(first(1)[start : start + len(KINDS)]) == sorted(KINDS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--faults", "flood"], "known are kill"),
        (["--minutes", "0"], "--minutes"),
        (["--sessions", "0"], "--sessions"),
        (["--faults", "directory"], "needs --directory"),
        (["--workers", "1", "--faults", "drain"], "another worker"),
        (["--pretend", "5,1", "--backend", "fake"], "--pretend"),
        (["--every", "-1"], "--every"),
    ],
)
def test_bad_input_is_reported_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chaos", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_links_are_cut_by_root_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["chaos", "--faults", "cut"]) == 2
    assert "root" in capsys.readouterr().err


@pytest.mark.slow
def test_it_can_be_interrupted_and_reports_what_it_has(tmp_path: Path) -> None:
    report = tmp_path / "chaos.json"
    words = ["chaos", "--sessions", "1", "--faults", "kill", "--every", "0.5", "--json", str(report)]
    command = [sys.executable, "-m", "server.cli", "bench", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert running.stderr.readline().startswith("kill w")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 0
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["tables"]["faults"][0]["fault"] == "kill"
    assert told["figures"]["sessions lost"]["value"] == 0
    assert told["figures"]["prompts without a final receipt"]["value"] == 0
