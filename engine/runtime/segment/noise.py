"""The only source of randomness: noise from (seed, scene, segment of the scene), never a global generator.

So the same seed and controls give the same video, bit for bit. This module knows no models.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.types import FloatArray

SEGMENT, CONTEXT, START = 0, 1, 8  # independent noise streams of one segment; samplers use 2 to 7 as well


def gaussian(
    seed: int, scene: int, segment: int, shape: tuple[int, ...], stream: int = SEGMENT
) -> FloatArray:
    """Standard normal noise. Philox is counter-based: any segment's noise is available without the ones
    before."""
    bits = np.random.Philox(key=[seed, (scene % 2**24) << 40 | segment], counter=[0, 0, 0, stream])
    return np.random.Generator(bits).standard_normal(shape, np.float32)


def sampler_noise(seed: int, scene: int, segment: int) -> Callable[[int, tuple[int, ...]], FloatArray]:
    """A segment's noise for its sampler: stream 0 is the segment's own, later streams are further draws."""

    def draw(stream: int, shape: tuple[int, ...]) -> FloatArray:
        return gaussian(seed, scene, segment, shape, CONTEXT + stream if stream else SEGMENT)

    return draw


def share(seed: int, scene: int, stream: int, least: float, most: float) -> float:
    """A number between `least` and `most` for a scene."""
    bits = np.random.Philox(key=[seed, (scene % 2**24) << 40], counter=[0, 0, 1, stream])
    return float(np.random.Generator(bits).uniform(least, most))
