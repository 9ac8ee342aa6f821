"""Samplers on arrays, without torch: each takes one draft from noise to a clean segment.

`Flow` is rectified flow at one size, from noise at t = 0 to data at t = 1, with an integrator: `Euler`, or
UniPC where there is torch (engine.companions.unipc). Helios' pyramid has several sizes; it stands with its
model (engine.model.helios.pyramid). The spec names one of them; all are Samplers of engine.backends.base.

Legend: K steps; x and velocities (W, C, h, w), or (B, W, C, h, w) where an integrator takes batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from engine.backends.base import Noise, Sampler
from engine.errors import ModelFilesError
from engine.model.helios.config import PyramidConfig
from engine.model.helios.pyramid import Pyramid
from engine.model.signature import ModelSpec
from engine.types import FloatArray


class Integrator(Protocol):
    """The positions of the steps and the update of each. An integrator of higher order remembers its last
    steps, so each draft has its own instance."""

    @property
    def times(self) -> Sequence[float]:
        """t before each of the K steps, and 1."""
        ...

    def step(self, k: int, x: FloatArray, velocity: FloatArray) -> FloatArray:
        """x at times[k] and the model's velocity there → x at times[k + 1]."""
        ...


class Euler:
    """Equal steps. `shift` s moves them towards the noise, σ → s σ / (1 + (s − 1) σ) with σ = 1 − t, which
    large pictures need."""

    def __init__(self, steps: int, shift: float = 1.0) -> None:
        sigmas = [1 - k / steps for k in range(steps + 1)]
        self.times = [1 - shift * s / (1 + (shift - 1) * s) for s in sigmas]
        self._lengths = [np.float32(b - a) for a, b in pairwise(self.times)]

    def step(self, k: int, x: FloatArray, velocity: FloatArray) -> FloatArray:
        return x + self._lengths[k] * velocity


class Flow:
    """See engine.backends.base.Sampler."""

    role = "denoise"

    def __init__(self, integrator: Integrator, noise: FloatArray) -> None:
        self.x, self._integrator, self._k = noise, integrator, 0

    @property
    def calls_left(self) -> int:
        return len(self._integrator.times) - 1 - self._k

    def told(self) -> dict[str, npt.NDArray[Any]]:
        start, end = self._integrator.times[self._k : self._k + 2]
        return {"t": np.array(start, np.float32), "d": np.array(end - start, np.float32)}

    def advance(self, answer: FloatArray) -> None:
        self.x = self._integrator.step(self._k, self.x[None], answer[None])[0]
        self._k += 1


def euler(spec: ModelSpec, steps: int) -> Integrator:
    """Raises ModelFilesError for a model that needs another integrator."""
    if spec.sampler != "euler":
        raise ModelFilesError(
            f"{spec.name} is sampled by {spec.sampler}, which needs a PyTorch backend: "
            "choose --backend tensorrt, cuda or reference",
            field="sampler",
        )
    return Euler(steps, spec.shift)


def make_sampler(
    spec: ModelSpec,
    steps: int,
    noise: Noise,
    integrator: Callable[[ModelSpec, int], Integrator] = euler,
) -> Sampler:
    """A fresh one of `steps` calls in all, as the spec names it."""
    shape = (spec.segment, spec.latent_channels, spec.latent_height, spec.latent_width)
    if spec.sampler == "pyramid":
        shift_by: Literal["own", "previous"] = "own" if spec.shift_by == "own" else "previous"
        first, middle, last = (n * steps // spec.steps for n in spec.stage_steps)
        calls = PyramidConfig(steps=(first, middle, last), shift_by=shift_by)
        return Pyramid(shape, calls, noise, first=False)
    return Flow(integrator(spec, steps), noise(0, shape))
