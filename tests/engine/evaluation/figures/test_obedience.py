"""Obedience's summary: the estimator's own errors are reported beside the model's figures."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

from engine.backends.fake import FAKE_SPEC
from engine.evaluation.bench import SOURCES, Bench, Model
from engine.evaluation.figures.obedience import Obedience, random_runs
from engine.evaluation.statistics import Estimate
from engine.world.attributes import PLACES


def figures(sign: float, still: float) -> dict[str, float | None]:
    return {
        "sign": sign,
        "sign, first latent frame left out": sign,
        "still when asked to stand": still,
        "right, px/s": 60.0,
        "left, px/s": None,
        "error walking, px/s": 4.0,
        "error standing, px/s": 0.5,
    }


def test_the_places_where_the_estimator_errs_are_reported() -> None:
    rows: dict[str, dict[str, Any]] = {
        f"play-{seed}": {"seed": seed, "found": dict.fromkeys(SOURCES, figures(0.75, 1.0))}
        for seed in range(4)
    }
    for place in range(len(PLACES)):
        soft = 0.5 if PLACES[place] == "desert" else 1.0
        rows[f"validate-{place}"] = {
            "place": place,
            "validation": [
                {"weather": w, "source": s, **figures(soft if s == SOURCES[2] else 1.0, 1.0)}
                for w in range(4)
                for s in SOURCES[1:]
            ],
        }
    bench = Bench(Model("fake", FAKE_SPEC, None, None), None, {})  # type: ignore[arg-type]
    summary = Obedience().summarise(rows, bench)
    shares, speeds, validity = summary.tables
    cell = shares.rows[0][1][0]
    assert isinstance(cell, Estimate)
    assert (cell.value, cell.n) == (0.75, 4)
    assert [label for label, _ in speeds.rows] == [
        "speed to the right (32 asked)",
        "mean error while walking",
        "mean error while standing",
    ]
    assert len(validity.rows) == len(PLACES) + 4 + 1
    assert "right sign, soft in desert (50 %)" in summary.notes[-1]
    assert "meadow" not in summary.notes[-1]


def test_actions_come_in_runs_that_fill_the_video_and_always_change() -> None:
    for seed in range(30):
        runs = random_runs(Random(seed))
        assert sum(length for length, _ in runs) == 20
        assert all(a != b for (_, a), (_, b) in pairwise(runs))
        assert all(length >= 1 for length, _ in runs)
