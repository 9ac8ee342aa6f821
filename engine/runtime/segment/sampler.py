"""From noise at t = 0 to a clean segment at t = 1, on arrays: where the steps lie and what each of them does.

Euler is rectified flow's own sampler. `shift` s moves steps towards the noise, σ → s σ / (1 + (s − 1) σ) with
σ = 1 − t, as large pictures want it. It knows no model.

Legend: K steps; x and velocities (B, W, C, h, w).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, cast

import numpy as np

from engine.model.signature import ModelSpec
from engine.types import FloatArray


class Sampler(Protocol):
    """For one segment of one batch: a sampler of higher order remembers its last steps."""

    @property
    def times(self) -> Sequence[float]:
        """t before each of the K steps, and 1."""
        ...

    def step(self, k: int, x: FloatArray, velocity: FloatArray) -> FloatArray:
        """x at times[k] and the model's velocity there → x at times[k + 1]."""
        ...


class Euler:
    def __init__(self, steps: int, shift: float = 1.0) -> None:
        sigmas = [1 - k / steps for k in range(steps + 1)]
        self.times = [1 - shift * s / (1 + (shift - 1) * s) for s in sigmas]
        self._lengths = [np.float32(b - a) for a, b in pairwise(self.times)]

    def step(self, k: int, x: FloatArray, velocity: FloatArray) -> FloatArray:
        return x + self._lengths[k] * velocity


def make_sampler(spec: ModelSpec, steps: int) -> Sampler:
    """Fresh, as the spec names it. UniPC brings diffusers and torch along, only where a model asks for it."""
    if spec.sampler == "unipc":
        return cast(Sampler, importlib.import_module("engine.companions.unipc").UniPC(steps, spec.shift))
    return Euler(steps, spec.shift)
