"""Helios' pyramid sampler on arrays: a chunk from noise at a quarter of the size to clean latents.

The network answers v = start − end of a stage, which is minus our velocity. A chunk has three streams of
noise, its own and one for each up-sampling; given those it is deterministic. No torch here, and no network.
Source: diffusers 0.42, `HeliosPyramidPipeline` with `is_distilled`. Its block noise is drawn by the Cholesky
factor of a singular covariance, which fails on CPUs; here it is drawn in closed form, the same distribution.

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
    """One chunk in the making (engine.backends.base.Sampler): `x` goes to the network under `step`, `advance`
    takes its answer."""

    def __init__(self, shape: Shape, p: PyramidConfig, noise: Noise, *, first: bool) -> None:
        """`noise` gives stream 0 for the chunk, 1 and 2 for the up-samplings; `first`: of a scene."""
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
        """Of the next call: each stage has a shape of its own."""
        return f"denoise_{self._stage}"

    @property
    def step(self) -> Step:
        """Of the next call."""
        return self._plan[self._stage][self._k]

    def told(self) -> dict[str, npt.NDArray[Any]]:
        """What the next call is told besides x."""
        return {"timestep": np.array(self.step.timestep, np.int64)}

    def advance(self, answer: FloatArray) -> None:
        """`answer` (W, C, h, w) is the network's v for `x` under `step`."""
        step = self.step
        end = (self.x - step.sigma * answer.astype(np.float64)).astype(np.float32)
        x = (1 - step.sigma_next) * end.astype(np.float64) + step.sigma_next * self._start
        self.x = x.astype(np.float32)
        self._k += 1
        if self._k == len(self._plan[self._stage]) and self._stage < STAGES - 1:
            self._stage, self._k = self._stage + 1, 0
            self._enter()

    def _enter(self) -> None:
        """The end of the stage before, twice as large, with noise that hides the edges of its blocks."""
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
    """(..., h, w) → (..., h / 2, w / 2), of the same variance: twice the mean of 2 x 2 blocks."""
    h, w = noise.shape[-2:]
    blocks = noise.reshape(*noise.shape[:-2], h // 2, 2, w // 2, 2)
    out: FloatArray = blocks.mean((-3, -1), dtype=np.float32) * np.float32(2)
    return out


def block_noise(noise: FloatArray) -> FloatArray:
    """White noise (..., h, w) → variance 1, and −γ = −1/3 between the cells of a 2 x 2 block."""
    mean = halved(noise).repeat(2, -2).repeat(2, -1) / np.float32(2)
    out: FloatArray = np.float32((1 + GAMMA) ** 0.5) * (noise - mean)
    return out
