"""The sampler of rectified flow on arrays: equal Euler steps from noise at t = 0 to a clean segment at t = 1.

`shift` s moves steps towards the noise, σ → s σ / (1 + (s − 1) σ) with σ = 1 − t, which large pictures need.

Legend: K steps; x and velocities (B, W, C, h, w).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from engine.errors import ModelFilesError
from engine.model.signature import ModelSpec
from engine.types import FloatArray


class Euler:
    """See engine.backends.base.Sampler."""

    def __init__(self, steps: int, shift: float = 1.0) -> None:
        sigmas = [1 - k / steps for k in range(steps + 1)]
        self.times = [1 - shift * s / (1 + (shift - 1) * s) for s in sigmas]
        self._lengths = [np.float32(b - a) for a, b in pairwise(self.times)]

    def step(self, k: int, x: FloatArray, velocity: FloatArray) -> FloatArray:
        return x + self._lengths[k] * velocity


def euler(spec: ModelSpec, steps: int) -> Euler:
    """For backends without torch. Raises ModelFilesError for a model that needs another sampler."""
    if spec.sampler != "euler":
        raise ModelFilesError(
            f"{spec.name} is sampled by {spec.sampler}, which needs a PyTorch backend: "
            "choose --backend tensorrt, cuda or reference",
            field="sampler",
        )
    return Euler(steps, spec.shift)
