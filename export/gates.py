"""How far a backend may deviate from PyTorch in fp32, per precision, and how numbers are compared.

The strongest gate is the last one: at most BASELINE_FACTOR times the error of PyTorch itself in that
precision. The others catch errors that it cannot, such as a PyTorch reference that is broken in the same way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidInput

BASELINE_FACTOR = 2.0


@dataclass(frozen=True)
class Distance:
    """The distance of two arrays: ‖a − b‖ / ‖b‖, the largest difference in standard deviations of b, and the
    cosine of their angle."""

    rel_l2: float
    max_std: float
    cosine: float
    finite: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


ROUNDED = (
    "fp32 behind whole levels"  # about one pixel in 100,000 is rounded differently before SigLIP sees it
)
GATES = {
    "fp32": Distance(1e-5, 1e-4, 0.999999),
    ROUNDED: Distance(1e-4, 1e-2, 0.999999),
    "fp16": Distance(5e-3, 3e-2, 0.9999),
    "bf16": Distance(3e-2, 0.15, 0.9995),
    "fp8": Distance(8e-2, 0.5, 0.995),
    "int8": Distance(5e-2, 0.4, 0.998),
}


def gate(precision: str) -> Distance:
    """The gate of a precision. Raises InvalidInput for one without a gate."""
    if precision not in GATES:
        raise InvalidInput(
            f"no gate for precision {precision!r}; known are {', '.join(GATES)}", field="precision"
        )
    return GATES[precision]


def distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Distance:
    """The distance of `a` from the reference `b`."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    if not np.isfinite(x).all():
        return Distance(float("inf"), float("inf"), 0.0, False)
    apart = x - y
    if not apart.any():
        return Distance(0.0, 0.0, 1.0)
    norm, std = float(np.linalg.norm(y)), float(y.std())
    dot = float(np.linalg.norm(x)) * norm
    cosine = float(x @ y) / dot if dot else 0.0
    return Distance(
        float(np.linalg.norm(apart)) / max(norm, 1e-12),
        float(np.abs(apart).max()) / max(std, 1e-12),
        min(max(cosine, -1.0), 1.0),  # rounding in the three sums can exceed 1 by an ulp
    )


def failures(found: Distance, allowed: Distance, baseline: Distance | None = None) -> list[str]:
    """The gates that fail, as messages; empty if all hold."""
    messages = [] if found.finite else ["not finite"]
    if found.rel_l2 > allowed.rel_l2:
        messages.append(f"relative error {found.rel_l2:.1e}, allowed {allowed.rel_l2:.0e}")
    if found.max_std > allowed.max_std:
        messages.append(f"largest error {found.max_std:.1e} deviations, allowed {allowed.max_std:.0e}")
    if found.cosine < allowed.cosine:
        messages.append(f"cosine {found.cosine:.6f}, at least {allowed.cosine}")
    negligible = 1e-6  # below this, the order of summation dominates
    if baseline is not None and found.rel_l2 > max(BASELINE_FACTOR * baseline.rel_l2, negligible):
        messages.append(f"relative error {found.rel_l2:.1e}, PyTorch's own is {baseline.rel_l2:.1e}")
    return messages
