"""Does a figure grow? Fits a straight line, with a confidence interval that is cautious about noise.

Neighbouring samples are correlated (a busy minute is busy throughout), which a plain fit mistakes for
certainty. The line therefore goes through the medians of a few blocks. Pure functions over numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.report import percentile

BLOCKS = 20
LEAST_BLOCKS = 4
WARM_UP = "Slopes leave out the first tenth, in which caches fill and the allocator settles."
_Z = 1.959964  # normal quantile of 97.5 %


class Slope(NamedTuple):
    """Change of y per unit of x, with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def grows(self) -> bool:
        return self.low > 0


def slope(xs: Sequence[float], ys: Sequence[float], blocks: int = BLOCKS) -> Slope | None:
    """None if there are too few samples, or if no time has passed."""
    blocks = min(blocks, len(xs) // 2)
    if blocks < LEAST_BLOCKS:
        return None
    cuts = [round(i * len(xs) / blocks) for i in range(blocks + 1)]
    parts = list(pairwise(cuts))
    x = [sum(xs[a:b]) / (b - a) for a, b in parts]
    y = [percentile(ys[a:b], 0.5) for a, b in parts]
    middle_x, middle_y = sum(x) / blocks, sum(y) / blocks
    spread = sum((v - middle_x) ** 2 for v in x)
    if spread == 0:
        return None
    value = sum((u - middle_x) * (v - middle_y) for u, v in zip(x, y, strict=True)) / spread
    rest = sum((v - middle_y - value * (u - middle_x)) ** 2 for u, v in zip(x, y, strict=True))
    off = _t(blocks - 2) * math.sqrt(rest / (blocks - 2) / spread)
    return Slope(value, value - off, value + off)


def table(
    xs: Sequence[float], figures: Mapping[str, Sequence[float]], per: float = 1000, unit: str = "segments"
) -> list[dict[str, Any]]:
    """One row per figure: its change in `per` of x, which counts in `unit`. The first tenth is left out
    (WARM_UP)."""
    rows: list[dict[str, Any]] = []
    skip = len(xs) // 10
    for name, ys in figures.items():
        line = slope(xs[skip:], ys[skip:])
        each = (None, None, None) if line is None else tuple(round(per * v, 4) for v in line)
        cells = dict(zip((f"per {per:g} {unit}", "from", "to"), each, strict=True))
        rows.append({"figure": name, "at the end": round(ys[-1], 3) if ys else None, **cells})
    return rows


def _t(freedom: int) -> float:
    """Student's 97.5 % quantile by the first terms of its expansion around the normal quantile (Fisher and
    Cornish); within 1 % from three degrees of freedom on."""
    g1 = (_Z**3 + _Z) / 4
    g2 = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    g3 = (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384
    return _Z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3
