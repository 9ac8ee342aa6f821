"""Helios' pyramid sampler on arrays: from noise at a quarter of the size to a segment of clean latents.

The network answers v = start − end of a stage, which is our velocity negated. A segment uses three streams of
noise: its own and one for each up-sampling. Given these it is deterministic. This module uses neither torch
nor the network. Source: diffusers 0.42, `HeliosPyramidPipeline` with `is_distilled`. That pipeline draws
block noise with the Cholesky factor of a singular covariance, which fails on CPUs; the closed form here gives
the same distribution.

Legend: W latent frames, C channels, h w latent size of a stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.model.helios.config import STAGES, PyramidConfig
from engine.model.helios.schedule import GAMMA, STAGE, Step, stage_steps
from engine.types import FloatArray

Noise = Callable[[int, tuple[int, ...]], FloatArray]  # stream, shape → standard normal
Shape = tuple[int, int, int, int]  # W, C, h, w of the whole picture


class Pyramid:
    """The sampling of one segment (engine.backends.base.Sampler). The network is called on `x` with `step`,
    and `advance` takes its answer."""

    def __init__(self, shape: Shape, p: PyramidConfig, noise: Noise, *, first: bool) -> None:
        """`noise` gives stream 0 for the segment, 1 and 2 for the up-samplings. `first`: a scene's first
        segment."""
        self._noise = noise
        self._plan = plan(shape, p, first=first)
        self._stage, self._k = 0, 0
        self.x = noise(0, shape)
        for _ in range(STAGES - 1):
            self.x = halved(self.x)
        self._start = self.x

    @property
    def calls_left(self) -> int:
        return sum(map(len, self._plan[self._stage :])) - self._k

    @property
    def role(self) -> str:
        """The role of the next call. Each stage has one, since its shape differs."""
        return f"denoise_{self._stage}"

    @property
    def step(self) -> Step:
        """Timestep and noise levels of the next call."""
        return self._plan[self._stage][self._k]

    def told(self) -> dict[str, npt.NDArray[Any]]:
        """Inputs of the next call besides x."""
        return {"timestep": np.array(self.step.timestep, np.int64)}

    def advance(self, answer: FloatArray) -> None:
        """`answer` (W, C, h, w) is the network's v for `x` at `step`."""
        step = self.step
        end = (self.x - step.sigma * answer.astype(np.float64)).astype(np.float32)
        x = (1 - step.sigma_next) * end.astype(np.float64) + step.sigma_next * self._start
        self.x = x.astype(np.float32)
        self._k += 1
        if self._k == len(self._plan[self._stage]) and self._stage < STAGES - 1:
            self._stage, self._k = self._stage + 1, 0
            self._enter()

    def _enter(self) -> None:
        """Start a stage: up-sample the previous one's end by two, and add noise that hides the blocks'
        edges."""
        s = STAGE[self._stage]
        large = self.x.repeat(2, -2).repeat(2, -1)
        extra = block_noise(self._noise(self._stage, large.shape))
        self.x = np.float32(s.keep) * large + np.float32(s.renoise) * extra
        self._start = self.x


def plan(shape: Shape, p: PyramidConfig, *, first: bool) -> tuple[tuple[Step, ...], ...]:
    """The calls of each stage."""
    frames, _, height, width = shape
    out = []
    for stage, count in enumerate(p.steps):
        shown = max(0, stage - 1) if p.shift_by == "previous" else stage
        tokens = frames * height * width // 4 // 4 ** (STAGES - 1 - shown)
        out.append(stage_steps(stage, count * (p.first_factor if first else 1), tokens))
    return tuple(out)


def halved(noise: FloatArray) -> FloatArray:
    """(..., h, w) → (..., h / 2, w / 2) with the same variance: twice the mean of 2 x 2 blocks."""
    h, w = noise.shape[-2:]
    blocks = noise.reshape(*noise.shape[:-2], h // 2, 2, w // 2, 2)
    out: FloatArray = blocks.mean((-3, -1), dtype=np.float32) * np.float32(2)
    return out


def block_noise(noise: FloatArray) -> FloatArray:
    """White noise (..., h, w) → noise of variance 1 with covariance −γ = −1/3 within 2 x 2 blocks."""
    mean = halved(noise).repeat(2, -2).repeat(2, -1) / np.float32(2)
    out: FloatArray = np.float32((1 + GAMMA) ** 0.5) * (noise - mean)
    return out
