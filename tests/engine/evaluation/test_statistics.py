"""Intervals and distances against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.evaluation.statistics import frechet, mean, of_seeds, share


def test_a_share_has_wilsons_interval() -> None:
    found = share([1.0] * 9 + [0.0])
    assert found is not None
    assert found.value == pytest.approx(0.9)
    assert (found.low, found.high) == pytest.approx((0.5958, 0.9821), abs=1e-3)
    assert found.n == 10


def test_all_right_in_few_tries_proves_little() -> None:
    """A bootstrap would give [1, 1] here."""
    few, many = share([1.0] * 4), share([1.0] * 400)
    assert few is not None
    assert many is not None
    assert few.low < 0.52 < 0.98 < many.low
    assert few.high == pytest.approx(1.0)


def test_an_empty_sequence_has_no_estimate() -> None:
    assert share([]) is None
    assert mean([]) is None
    assert of_seeds(0, lambda seeds: 1.0) is None


def test_one_value_has_no_interval() -> None:
    found = mean([3.0])
    assert found is not None
    assert found.value == 3.0
    assert math.isnan(found.low)


def test_the_bootstrap_interval_is_about_as_wide_as_it_should_be() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    found = mean(values.tolist())
    assert found is not None
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)


def test_the_same_values_give_the_same_interval() -> None:
    assert mean([1.0, 2.0, 4.0]) == mean([1.0, 2.0, 4.0])


def test_the_frechet_distance_of_shifted_and_widened_normals() -> None:
    """For independent axes: |shift|² + Σ (σ_a − σ_b)²."""
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (200_000, 3))
    b = rng.normal(0, 1, (200_000, 3)) * np.array([1.0, 2.0, 3.0]) + np.array([2.0, 0.0, 0.0])
    assert frechet(a, b) == pytest.approx(4 + 1 + 4, rel=0.02)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_works_with_fewer_frames_than_features() -> None:
    rng = np.random.default_rng(0)
    found = frechet(rng.normal(0, 1, (5, 40)), rng.normal(0, 1, (7, 40)))
    assert math.isfinite(found)
    assert found > 0


def test_a_statistic_of_several_seeds_uses_all_of_them() -> None:
    values = np.arange(30.0)
    found = of_seeds(30, lambda seeds: float(np.median(values[list(seeds)])))
    assert found is not None
    assert found.value == 14.5
    assert found.low < 14.5 < found.high
