"""The table of variants from constructed rows: how differences are paired, and what counts as agreement."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.evaluation.figure import Row
from engine.variants.markdown import text
from engine.variants.table import MeasuredVariant, cells, claims, difference, paper, ratings, recall, to_json

NAMES = ("all named", "right sign", "dynamic", "smoothness", "background", "subject", "sharpness", "distance")


def walk(seed: int, *, change: float = 0.1, **figures: float) -> Row:
    whole: dict[str, Any] = dict.fromkeys(NAMES, 0.5) | figures
    later = {n: x + change for n, x in whole.items()}
    one = [[0.0, 1.0 + seed], [1.0, seed * 2.0]]
    return {"seed": seed, "whole": whole, "ends": [whole, later], "features": one, "reference": one}


def variant(name: str, better: float = 0.0, *, seeds: int = 6, **rest: Any) -> MeasuredVariant:
    """Every seed has its own level, to which `better` is added."""
    walks = [walk(s, subject=0.1 * s + better, distance=1.0 - better) for s in range(seeds)]
    return MeasuredVariant(name, name.upper(), walks, **rest)


def test_differences_are_taken_seed_by_seed() -> None:
    """Seeds differ by half a point, the variants by a fiftieth."""
    found = difference(variant("a", 0.02), variant("b"), "subject")
    assert found is not None
    assert found.value == pytest.approx(0.02)
    assert found.low > 0.019
    fewer = difference(variant("a", 0.02, seeds=3), variant("b"), "subject")
    assert fewer is not None
    assert fewer.n == 3
    drift = difference(variant("a"), variant("b"), "Δ subject")
    assert drift is not None
    assert drift.value == pytest.approx(0)


def test_figures_that_were_not_measured_have_no_value() -> None:
    one = MeasuredVariant("a", "A", [walk(0, dynamic=1.0), walk(1)])
    one.walks[0]["whole"]["right sign"] = None
    assert cells(one)["right sign"].n == 1  # type: ignore[union-attr]
    assert cells(one)["recall"] is None
    assert "error at returns" not in cells(one)


def test_recall_counts_landmarks_that_have_left_the_history() -> None:
    """Of each landmark: seconds out of sight, found, kind right, colour right."""
    own = {"same": [[2.0, 1, 1, 1], [6.0, 1, 1, 1], [7.0, 1, 1, 0]], "chance": [[6.0, 1, 0, 1]]}
    found = recall([{"found": [own, {"same": [[1.0, 1, 1, 1]], "chance": []}]}])
    assert found["recall"].value == 0.5  # type: ignore[union-attr]
    assert found["recall"].n == 1  # type: ignore[union-attr]
    assert found["recall by chance"].value == 0.0  # type: ignore[union-attr]


def test_elo_uses_the_seeds_that_all_variants_have() -> None:
    good, bad, short = variant("good", 0.3), variant("bad"), variant("short", -0.3, seeds=2)
    rated = ratings([good, bad, short])
    assert rated["good"].value > rated["bad"].value > rated["short"].value
    assert rated["good"].n == 2
    assert ratings([good]) == {}


def test_the_papers_tables_are_complete() -> None:
    one, two, three = paper()
    assert len(one.rows) == 4
    assert one.rows["FramePack-F0"]["dynamic"] == 15.38
    assert one.rows["MemoryPack and Direct Forcing"]["ELO"] == 1568
    assert two.rows["All (Direct Forcing)"]["Δ subject"] == 0.99
    assert "ELO" not in two.rows["MemoryPack"]
    assert three.rows["A"] == {k: two.rows["MemoryPack"][k] for k in three.rows["A"]}


def test_a_claim_agrees_disagrees_or_is_not_resolved() -> None:
    """In the paper, MemoryPack's subject consistency is 1.13 above F1's, and its imaging quality 0.98. A
    lower distance means better imaging."""
    f1 = variant("f1", paper=["F1, trained on their data"])
    for better, verdict in ((0.2, "agrees"), (-0.2, "disagrees"), (0.0, "not resolved")):
        found = claims([variant("m", better, paper=["MemoryPack"]), f1])
        by_column = {c.column: c for c in found if c.table.startswith("Table 2")}
        assert by_column["subject"].theirs == pytest.approx(1.13)
        assert by_column["subject"].verdict == verdict
        assert by_column["imaging"].verdict == verdict
        assert by_column["background"].verdict == "not resolved"
        assert "ELO" not in by_column


def test_the_report_shows_every_variant_beside_its_rows_of_the_paper() -> None:
    seen = {"own": [1.0, 2.0], "short": [1.1, 2.2], "another": [1.5, 3.0]}
    f1 = variant("f1", paper=["FramePack-F1", "F1, trained on their data"])
    own = variant("m", 0.2, paper=["MemoryPack", "A"], control="f1", returns=seen, trained={"steps": 9})
    report = text([own, f1], {"budget": "little"})
    assert "| paper: MemoryPack | 55.31 | 51.13 |" in report
    assert "| here: M |" in report
    assert "| M | F1 | 0" in report  # minus its control
    assert "10 [10, 10]" in report  # the effect of ψ, in per cent
    assert "Table 2: MemoryPack minus F1, trained on their data" in report
    plain = json.loads(json.dumps(to_json([own, f1], {}), allow_nan=False))
    assert plain["variants"]["m"]["figures"]["subject"]["n"] == 6
    assert plain["variants"]["m"]["trained"] == {"steps": 9}
