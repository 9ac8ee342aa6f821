"""The only source of randomness: noise from (seed, scene, segment of the scene), never a global generator.

So seed and controls give a session's video again, bit for bit. Models are unknown here.
"""

from __future__ import annotations

import numpy as np

from engine.types import FloatArray

SEGMENT, CONTEXT = 0, 1  # independent noise streams of one segment


def gaussian(
    seed: int, scene: int, segment: int, shape: tuple[int, ...], stream: int = SEGMENT
) -> FloatArray:
    """Standard normal noise. Philox is counter-based: any segment's noise is available without the ones
    before."""
    bits = np.random.Philox(key=[seed, (scene % 2**24) << 40 | segment], counter=[0, 0, 0, stream])
    return np.random.Generator(bits).standard_normal(shape, np.float32)
