"""Noise levels and timesteps of Helios' pyramid: plain numbers, from nothing but the stage and its tokens.

Each stage goes from its start, which is noise and an up-sampled picture, to its end, which the next stage
starts from. Inside a stage σ runs from 1 to 0 between these two; the network is told a timestep that counts
1000 to 0 over all stages. Formulas: diffusers 0.42, `HeliosDMDScheduler` with the checkpoint's settings
(three equal stages, γ = 1/3, linear time shift).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

from engine.model.helios.config import STAGES

TRAINED = 1000  # timesteps of training
HIGHEST, LOWEST = 0.999, 0.000999  # range of σ, over all stages and within each
GAMMA = 1 / 3  # negated correlation of the noise that is added after up-sampling
TOKENS, SHIFT = (256, 4096), (0.5, 1.15)  # two points of the line that maps tokens to the shift


@dataclass(frozen=True)
class PyramidStage:
    """It starts with `keep` times the up-sampled end of the previous stage plus `renoise` times block
    noise."""

    longest: float  # timestep at σ = 1
    shortest: float  # timestep at σ = 0
    keep: float
    renoise: float


@dataclass(frozen=True)
class Step:
    """One call of the network. `timestep` is rounded down, as in the public pipelines."""

    timestep: int
    sigma: float
    sigma_next: float


def global_sigma(index: int) -> float:
    """σ of the timesteps of training, from the noisiest to the cleanest; 0 after the last."""
    return HIGHEST - (HIGHEST / TRAINED) * index if index < TRAINED else 0.0


def make_stages() -> tuple[PyramidStage, ...]:
    edges = [int(stage / STAGES * TRAINED) for stage in range(STAGES + 1)]
    keep, renoise, lengths = [1.0], [0.0], [global_sigma(edges[0]) - global_sigma(edges[1])]
    for stage in range(1, STAGES):
        sigma = global_sigma(edges[stage])
        signal = 1 - sigma
        keep.append(1 / ((1 + 1 / GAMMA) ** 0.5 * sigma + signal))
        renoise.append(keep[-1] * sigma / GAMMA**0.5)
        lengths.append(1 - keep[-1] * signal - global_sigma(edges[stage + 1]))
    shares = [0.0, *(length / sum(lengths) for length in accumulate(lengths))]
    out = []
    for stage in range(STAGES):
        first = min(TRAINED * global_sigma(int(shares[stage] * TRAINED)), TRAINED - 1)
        last = TRAINED * global_sigma(min(int(shares[stage + 1] * TRAINED), TRAINED - 1))
        out.append(
            PyramidStage(first, first + (last - first) * (TRAINED - 1) / TRAINED, keep[stage], renoise[stage])
        )
    return tuple(out)


STAGE = make_stages()


def time_shift(tokens: int) -> float:
    """With more tokens, a stage spends more of its calls at its noisy end. There is no upper limit."""
    slope = (SHIFT[1] - SHIFT[0]) / (TOKENS[1] - TOKENS[0])
    return SHIFT[0] + slope * (tokens - TOKENS[0])


def stage_steps(stage: int, count: int, tokens: int) -> tuple[Step, ...]:
    """The calls of a stage. `tokens` determines its shift."""
    mu, s = time_shift(tokens), STAGE[stage]
    even = [HIGHEST + (LOWEST - HIGHEST) * i / count for i in range(count)]
    sigmas = [*(mu / (mu + 1 / sigma - 1) for sigma in even), 0.0]
    return tuple(
        Step(int(s.shortest + sigma * (s.longest - s.shortest)), sigma, sigma_next)
        for sigma, sigma_next in pairwise(sigmas)
    )
