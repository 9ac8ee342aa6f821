"""Figures from constructed rows and short arrays: what is counted, when, and compared with what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.backends.fake import FAKE_SPEC
from engine.evaluation import prompts
from engine.evaluation.bench import ProbeReading, script_of
from engine.evaluation.figure import Summary
from engine.evaluation.figures import elo
from engine.evaluation.figures.adherence import MOMENTS, SETTLED, hits
from engine.evaluation.figures.drift import collect, pixels, spans
from engine.evaluation.figures.elo import Game, VideoScore, game_score, ratings
from engine.evaluation.prompted_scenes import by_seed, distance
from engine.evaluation.statistics import Estimate
from engine.script import Entry
from engine.types import Action
from engine.world.attributes import FIELDS, VALUES

PER_SEGMENT = 8


def seen(shown: torch.Tensor) -> ProbeReading:
    """The reading of a probe that is certain of values (N, 5)."""
    fields = [F.one_hot(shown[:, i], len(VALUES[f])).float() for i, f in enumerate(FIELDS)]
    none = torch.zeros(len(shown), 1)
    return ProbeReading(fields, none, none, none)


def test_adherence_reads_the_ends_of_the_right_segments() -> None:
    """The prompt shows three segments after each change, so early readings are wrong and late ones right."""
    asked = [torch.full((5,), k) for k in range(3)]
    shown = torch.zeros(3 * SETTLED * PER_SEGMENT, 5, dtype=torch.int64)
    shown[(SETTLED + 2) * PER_SEGMENT :] = 1
    shown[(2 * SETTLED) * PER_SEGMENT :] = 2
    found = hits(seen(shown), asked, PER_SEGMENT)
    assert [m.label for m in MOMENTS] == list(found)
    assert len(found[MOMENTS[0].label]) == SETTLED - 1
    assert all(all(look) for look in found[MOMENTS[0].label])
    right = {label: looks[0][0] for label, looks in found.items()}
    assert not right["recondition, after 1"]
    assert not right["recondition, after 2"]
    assert right["recondition, after 4"]
    assert right["cut, after 1"]


def test_every_attribute_changes_so_that_nothing_is_right_by_persistence() -> None:
    from random import Random

    rng = Random(1)
    for seed in range(50):
        before = prompts.attributes("test", seed)
        after = prompts.changed(before, rng)
        assert all(before[f] != after[f] for f in FIELDS)


def test_a_few_seeds_cover_all_weathers() -> None:
    """With independent draws, five of six seeds had rain."""
    for start in (0, 4, 8):
        seen = {prompts.attributes("test", start + i)["weather"] for i in range(4)}
        assert seen == {0, 1, 2, 3}
    assert len({tuple(prompts.attributes("test", s).values()) for s in range(32)}) == 32
    assert prompts.attributes("test", 5) != prompts.attributes("other", 5)


def test_a_script_of_runs_comes_with_the_action_of_every_latent_frame() -> None:
    script, asked = script_of(FAKE_SPEC, [(2, "right"), (1, "idle")])
    w = FAKE_SPEC.segment
    assert script == [Entry(0.0, Action("right")), Entry(2 * FAKE_SPEC.segment_s, Action("idle"))]
    assert asked.tolist() == [2] * (2 * w) + [0] * w


def test_ends_are_fifteen_per_cent_in_whole_latent_frames_and_a_minute_at_most() -> None:
    first, last = spans(10.0, 8)
    assert (first.start, first.stop, last.start, last.stop) == (8, 32, 144, 168)
    first, last = spans(3600.0, 8)
    assert len(first) == len(last) == 960
    assert last.stop == 8 + 3600 * 16


def test_the_ends_of_an_endless_video_are_cut_out_of_its_segments() -> None:
    def numbered() -> Any:
        n = 0
        while True:
            yield np.arange(n, n + 8, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
            n += 8

    wanted = [range(4, 12), range(4, 20), range(30, 34)]
    kept = collect(numbered(), wanted)
    for r in wanted:
        assert kept[r][:, 0, 0, 0].tolist() == list(r)


def test_pixel_statistics_measure_light_colour_and_sharpness() -> None:
    grey = torch.full((4, 3, 8, 8), 100, dtype=torch.uint8)
    assert pixels(grey) == {"brightness": 100.0, "contrast": 0.0, "saturation": 0.0, "sharpness": 0.0}
    striped = grey.clone()
    striped[..., ::2] = 120
    striped[:, 0] += 30
    found = pixels(striped)
    assert found["saturation"] == 30.0
    assert found["sharpness"] == pytest.approx(20.0)


def test_the_distance_of_seeds_to_themselves_is_zero_and_seeds_stay_paired() -> None:
    rng = np.random.default_rng(0)
    pairs = [(seed, rng.normal(seed, 1, (6, 4)).tolist()) for seed in (1, 0, 2)]
    features = by_seed(pairs)
    assert features[0].mean() < features[1].mean() < features[2].mean()
    assert distance(features, features, [0, 2]) == pytest.approx(0, abs=1e-9)
    assert distance(features, [f + 1 for f in features], [0, 1]) == pytest.approx(4.0)


def test_elo_is_as_defined() -> None:
    """Both start at 1500 with K = 32: the first win is worth 16 points, and the sum is constant."""
    assert ratings([Game(0, 1, 1.0)], 2) == [1516.0, 1484.0]
    after = ratings([Game(0, 1, 1.0), Game(0, 1, 0.0)], 2)
    expected = 1 / (1 + 10 ** ((1484 - 1516) / 400))
    assert after[0] == pytest.approx(1516 - 32 * expected)
    assert sum(after) == pytest.approx(3000)


def test_adherence_and_fidelity_are_worth_half_a_point_each() -> None:
    assert game_score(VideoScore(0.8, 1.0), VideoScore(0.6, 2.0)) == 1.0
    assert game_score(VideoScore(0.8, 3.0), VideoScore(0.6, 2.0)) == 0.5
    assert game_score(VideoScore(0.6, 1.0), VideoScore(0.6, 2.0)) == 0.75
    assert game_score(VideoScore(0.6, 1.0), VideoScore(0.6, 1.0)) == 0.5
    assert game_score(VideoScore(0.5, 3.0), VideoScore(0.6, 2.0)) == 0.0


def test_ratings_follow_strength_and_equals_stay_at_the_start() -> None:
    rng = np.random.default_rng(0)
    unequal = [[VideoScore(0.9, 1.0), VideoScore(0.6, 2.0), VideoScore(0.3, 3.0)] for _ in range(40)]
    strong, middle, weak = elo.elo(unequal)
    assert strong.low > middle.high > middle.low > weak.high
    assert strong.value + middle.value + weak.value == pytest.approx(4500)
    noise = [[VideoScore(float(a), 1.0), VideoScore(float(b), 1.0)] for a, b in rng.random((60, 2))]
    first, second = elo.elo(noise)
    assert first.low < 1500 < first.high
    assert second.low < 1500 < second.high


def test_a_summary_of_few_rows_has_figures_and_intervals() -> None:
    from engine.evaluation.bench import Bench, Model
    from engine.evaluation.figures.steps import Steps

    rng = np.random.default_rng(0)

    def scene(seed: int) -> dict[str, Any]:
        features = {k: rng.normal(0, 1, (3, 4)).tolist() for k in ("1", "4")}
        steps = {k: {"right": [[k == "4"] * 5] * 3, "features": f} for k, f in features.items()}
        return {"seed": seed, "steps": steps, "reference": rng.normal(0, 1, (12, 4)).tolist()}

    model = Model("fake", FAKE_SPEC, None, None)  # type: ignore[arg-type]
    bench = Bench(model, None, {})  # type: ignore[arg-type]
    summary: Summary = Steps().summarise({str(s): scene(s) for s in range(3)}, bench)
    adherence, fidelity = summary.tables
    one, four = adherence.rows
    assert one[0] == "1 steps"
    assert isinstance(one[1][0], Estimate)
    assert (one[1][0].value, one[1][0].n) == (0.0, 3)
    assert isinstance(one[1][1], Estimate)
    assert one[1][1].value == 1.0  # less than in 4 steps
    assert four[1][1] is None
    assert len(fidelity.rows) == 2
