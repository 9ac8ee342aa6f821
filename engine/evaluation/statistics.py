"""Estimates with confidence intervals over independent seeds.

Frames of one video are not independent samples, so every function takes one value per seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float64]

Z95 = 1.959964
RESAMPLES = 1000


class Estimate(NamedTuple):
    value: float
    low: float
    high: float
    n: int  # independent seeds


def share(rates: Sequence[float]) -> Estimate | None:
    """The mean of shares in [0, 1], one per seed, with Wilson's 95 % interval for n = seeds.

    The interval is accurate for one try per seed. A share over many frames varies less than a single try, so
    there the interval is too wide rather than too narrow. None for an empty sequence."""
    n = len(rates)
    if not n:
        return None
    p = float(np.mean(rates))
    middle = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return Estimate(p, max(0.0, middle - half), min(1.0, middle + half), n)


def mean(values: Sequence[float]) -> Estimate | None:
    """The mean with its 95 % percentile bootstrap interval. None for an empty sequence; NaN limits for a
    single value."""
    if not len(values):
        return None
    if len(values) == 1:
        return Estimate(float(values[0]), math.nan, math.nan, 1)
    data = np.asarray(values, np.float64)
    picks = np.random.default_rng(0).integers(0, len(data), (RESAMPLES, len(data)))
    low, high = np.percentile(data[picks].mean(1), (2.5, 97.5))
    return Estimate(float(data.mean()), float(low), float(high), len(data))


def of_seeds(
    seeds: int, statistic: Callable[[Sequence[int]], float], *, resamples: int = 50
) -> Estimate | None:
    """A statistic over several seeds at once, such as a distance between distributions: its value ± 1.96
    bootstrap standard errors. A percentile interval would be biased, since drawing seeds with replacement
    shifts such a statistic to one side."""
    if not seeds:
        return None
    value = statistic(range(seeds))
    if seeds == 1:
        return Estimate(value, math.nan, math.nan, 1)
    rng = np.random.default_rng(0)
    again = [statistic(rng.integers(0, seeds, seeds).tolist()) for _ in range(resamples)]
    half = Z95 * float(np.std(again))
    return Estimate(value, value - half, value + half, seeds)


def frechet(a: Features, b: Features) -> float:
    """Fréchet distance between normal distributions fitted to features (N, D) and (M, D):
    |µ_a − µ_b|² + tr(C_a + C_b − 2 (C_a^½ C_b C_a^½)^½)."""
    (mean_a, c_a), (mean_b, c_b) = _moments(a), _moments(b)
    values, vectors = np.linalg.eigh(c_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ c_b @ root).clip(0)
    gap = ((mean_a - mean_b) ** 2).sum()
    return float(gap + np.trace(c_a) + np.trace(c_b) - 2 * np.sqrt(cross).sum())


def _moments(features: Features) -> tuple[Features, Features]:
    return features.mean(0), np.cov(features, rowvar=False)
