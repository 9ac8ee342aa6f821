"""Benchmarks of the engine alone, on devices that cost nothing: what they count, not how fast anything is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cli import main
from benchmarks.engine.blank import BlankBackend, batching_device
from benchmarks.engine.endurance import Endurance, endure
from benchmarks.engine.load import in_real_time, own_ms, play, until_it_breaks
from benchmarks.engine.moments import measure as moments
from benchmarks.engine.step import measure
from benchmarks.report import BenchReport, duration
from benchmarks.slopes import WARM_UP, slope, table
from engine.backends.fake import FAIL_WORD, FakeBackend
from engine.model.signature import signature
from engine.types import OpenSession
from tests.rigs.engine.fakes import TINY_SPEC


def test_a_blank_device_has_the_shapes_of_the_model() -> None:
    backend = BlankBackend(TINY_SPEC)
    for role, contract in signature(TINY_SPEC).items():
        made = backend.run(role, {t.name: np.zeros((3, *t.shape), t.dtype) for t in contract.inputs})
        assert {name: (a.shape, str(a.dtype)) for name, a in made.items()} == {
            t.name: ((3, *t.shape), t.dtype) for t in contract.outputs
        }
    assert batching_device(TINY_SPEC, 8, 2).costs["denoise"] == (0.008, 0.002)


# ---- step ----


def test_every_function_is_timed_at_every_batch_size() -> None:
    slept: list[float] = []
    backend = BlankBackend(TINY_SPEC, costs={"decode": (0.004, 0.001)}, sleep=slept.append)
    report = measure(backend, (1, 4), n=3)
    rows = report.tables["milliseconds"]
    assert {(r["function"], r["rows"]) for r in rows} == {
        (role, n) for role in signature(TINY_SPEC) for n in (1, 4)
    }
    assert all(r["n"] == 3 for r in rows)
    assert slept == pytest.approx([0.005] * 4 + [0.008] * 4)
    assert set(report.singles) >= {
        "segment of one session, 1 in a batch",
        "segment of one session, 4 in a batch",
    }
    json.dumps(report.to_json(), allow_nan=False)


def test_a_session_is_measured_saved_restored_and_forked() -> None:
    report = BenchReport("step", {}, {})
    moments(FakeBackend(spec=TINY_SPEC), 3, report)
    assert {name: len(ms) for name, ms in report.series.items()} == {
        "snapshot": 3,
        "session from a snapshot": 3,
        "fork": 3,
    }
    assert 0 < report.singles["state of a session"][0] < report.singles["snapshot of a session"][0]


# ---- load ----


def test_sessions_are_added_until_deadlines_break_and_the_knee_is_narrowed_down() -> None:
    tried: list[int] = []

    def pretend(backend: object, sessions: int, max_batch: int, seconds: float) -> dict[str, object]:
        tried.append(sessions)
        return {"sessions": sessions, "segments": 9, "late %": 0.0 if sessions <= 11 else 30.0, "slow %": 0.0}

    rows, knee = until_it_breaks(BlankBackend(TINY_SPEC), (1, 2, 4, 8, 16, 32), 8, 1.0, play=pretend)
    assert tried == [1, 2, 4, 8, 16, 12, 10, 11]
    assert knee == 11
    assert [r["sessions"] for r in rows] == sorted(tried)


def test_a_simulated_device_measures_the_schedule_alone_and_reproducibly() -> None:
    """Four turns take 50 ms each: two sessions in real time, or as many as share a batch."""
    device = batching_device(TINY_SPEC, 50, 0)
    alone, together = (until_it_breaks(device, (1, 2, 4, 8), most, 20.0) for most in (1, 8))
    assert (alone[1], together[1]) == (2, 8)
    assert until_it_breaks(batching_device(TINY_SPEC, 50, 0), (1, 2, 4, 8), 1, 20.0) == alone
    assert alone[0][0]["device busy %"] == pytest.approx(40, abs=2)


def test_a_device_with_a_model_is_measured_on_the_real_clock() -> None:
    row = play(FakeBackend(TINY_SPEC), 2, max_batch=4, seconds=1.2)
    assert row["segments"] >= 2
    assert row["batching"] == "to 4"
    assert not in_real_time(row | {"segments": 0})


def test_the_runtimes_own_time_is_counted_separately_from_the_device() -> None:
    assert own_ms(TINY_SPEC, 2, segments=20) > 0


# ---- soak ----


def test_a_soak_leaves_nothing_behind_and_nothing_out_of_order() -> None:
    report, samples = endure(FakeBackend(TINY_SPEC), segments=400, sessions=1)
    figures = {name: value for name, (value, _) in report.singles.items()}
    assert figures["sessions that failed"] == 0
    assert figures["segments out of order or time"] == 0
    assert report.settings["sessions"] > 40  # the short ones came and went
    assert len(set(samples.threads)) == 1
    assert max(samples.files) - min(samples.files) <= 1
    late = samples.resident_mib[len(samples.resident_mib) // 2 :]
    assert max(late) - min(late) < 16  # what one session keeps of its past is bounded
    (slopes,) = report.tables.values()
    rows = {row["figure"]: row for row in slopes}
    assert rows["threads"]["per 1000 segments"] == 0
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize(("few", "noted"), [(101, True), (100, False)])
def test_a_short_soak_has_a_note(few: int, noted: bool) -> None:
    report, _ = endure(FakeBackend(TINY_SPEC), segments=100, sessions=1, few=few)
    assert report.notes[0] == WARM_UP
    assert any("too few to distinguish" in note for note in report.notes) is noted
    assert report.singles["video made"][0] > 0


def test_durations_have_readable_units() -> None:
    assert [duration(s) for s in (0.5, 100, 130, 6000, 9000)] == [
        (0.5, "seconds"),
        (100, "seconds"),
        (2.2, "minutes"),
        (100, "minutes"),
        (2.5, "hours"),
    ]


def test_growth_in_the_first_tenth_alone_gives_no_slope() -> None:
    rows = table(range(200), {"x": [min(n, 20) for n in range(200)]})
    assert (rows[0]["per 1000 segments"], rows[0]["at the end"]) == (0, 20)


def test_a_session_that_fails_is_counted_and_the_soak_continues() -> None:
    run = Endurance(FakeBackend(TINY_SPEC), long=1, segments=100)
    run.engine.open(OpenSession("bad", FAIL_WORD, 1))
    run.run()
    assert [e.session for e in run.failed] == ["bad"]
    assert run.made >= 100


def test_a_slope_is_found_in_noise_and_noise_alone_has_none() -> None:
    dice = random.Random(3)
    xs = list(range(1000))
    noise = [dice.gauss(10, 1) for _ in xs]
    grows = slope(xs, [y + 0.01 * x for x, y in zip(xs, noise, strict=True)])
    assert grows is not None
    assert grows.low < 0.01 < grows.high
    assert grows.grows
    claimed = 0
    for _ in range(40):
        flat = slope(xs, [dice.gauss(10, 1) for _ in xs])
        assert flat is not None
        claimed += not flat.low <= 0 <= flat.high
    assert claimed <= 6  # 5 % of them by chance
    assert slope([1, 2, 3], [1, 2, 3]) is None
    assert slope([5] * 100, noise[:100]) is None


# ---- the command ----


def test_tables_are_shown_and_are_in_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "step.json"
    assert main(["step", "--backend", "fake", "--batches", "1,2", "--n", "2", "--json", str(out)]) == 0
    assert "denoise" in capsys.readouterr().out
    rows = json.loads(out.read_text())["tables"]["milliseconds"]
    assert {r["rows"] for r in rows} == {1, 2}


def test_a_soak_of_the_engine_draws_its_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "soak.png"
    assert (
        main(["soak", "--backend", "fake", "--segments", "100", "--sessions", "1", "--plot", str(plot)]) == 0
    )
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("step --n 0", "--n must be at least 1"),
        ("load --seconds 0", "--seconds must be 0.5 to 3600"),
        ("soak --segments 5", "--segments must be at least 100"),
        ("soak --segments 500 --url http://127.0.0.1:1", "--segments has no effect with --url"),
        ("soak --segments 500 --plot /no/such/folder/x.png", "--plot: cannot write /no/such/folder/x.png"),
        ("step --backend nonsense", "backend"),
    ],
)
def test_bad_arguments_are_named(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("words", ["load --sessions 4,2", "step --batches 0", "load --pretend 5"])
def test_invalid_lists_are_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert words.split()[1] in capsys.readouterr().err


def test_an_empty_table_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    machine = {
        "cpu": "x",
        "cores": 1,
        "memory_gib": 1,
        "load": 0,
        "python": "3",
        "packages": {},
        "commit": None,
    }
    BenchReport("x", machine, {}, tables={"nothing": []}).show()
    assert "nothing" in capsys.readouterr().out
