"""The cost of a call of Helios, computed from its configuration: tokens and floating-point operations.

A multiply-add counts as two. Only matrix products and attention are counted; norms, rotations and modulations
add less than one per cent. Nothing is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from engine.model.helios.config import FREQUENCIES, STAGES, HeliosConfig, PyramidConfig
from engine.model.packing import KERNELS


@dataclass(frozen=True)
class Tokens:
    """Numbers of tokens in one call."""

    noisy: int
    anchor: int
    near: int  # history at 1x
    middle: int  # at 2x
    far: int  # at 4x

    @property
    def history(self) -> int:
        return self.anchor + self.near + self.middle + self.far

    @property
    def total(self) -> int:
        return self.noisy + self.history


def tokens_of(c: HeliosConfig, stage: int) -> Tokens:
    height, width = c.stage_size(stage)
    far, middle, near = (
        _patches(c, frames, kernel) for frames, kernel in zip(c.history, ("4x", "2x", "1x"), strict=True)
    )
    return Tokens(c.segment * (height // 2) * (width // 2), _patches(c, 1, "1x"), near, middle, far)


def _patches(c: HeliosConfig, frames: int, kernel: str) -> int:
    kt, kh, kw = KERNELS[kernel]
    return ceil(frames / kt) * ceil(c.latent_height / kh) * ceil(c.latent_width / kw)


def call_flop(c: HeliosConfig, stage: int) -> int:
    """Operations of one call for one session, without ψ, whose gate is closed until it is trained, and
    without the projection of the text, which is made once per prompt."""
    d, text, tokens = c.dim, c.text_tokens, tokens_of(c, stage)
    n, noisy = tokens.total, tokens.noisy
    self_attention = 2 * 4 * d * d * n + 4 * n * n * d
    cross_attention = 2 * 2 * d * d * (noisy + text) + 4 * noisy * text * d
    feed_forward = 2 * 2 * d * c.feed_forward * n
    times = 2 * 2 * (FREQUENCIES * d + 7 * d * d)  # for the history and for the step
    patches = 2 * c.channels * d * 4 * (noisy + tokens.anchor + tokens.near)
    patches += 2 * c.channels * d * (32 * tokens.middle + 256 * tokens.far)
    last = 2 * d * 4 * c.channels * noisy
    return c.layers * (self_attention + cross_attention + feed_forward) + times + patches + last


def segment_flop(c: HeliosConfig, p: PyramidConfig, *, first: bool = False) -> int:
    """Operations of all calls of a segment."""
    factor = p.first_factor if first else 1
    return factor * sum(p.steps[stage] * call_flop(c, stage) for stage in range(STAGES))
