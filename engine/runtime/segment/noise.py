"""Where randomness comes from: (seed, scene, segment of the scene), never a global generator.

So a session can be played again bit for bit from its seed and its controls. Knows no model.
"""

from __future__ import annotations

import numpy as np

from engine.types import FloatArray

SEGMENT, CONTEXT = 0, 1  # independent streams of one segment


def gaussian(
    seed: int, scene: int, segment: int, shape: tuple[int, ...], stream: int = SEGMENT
) -> FloatArray:
    """Standard normal noise. Philox is counter-based: any segment's noise is had without the ones before."""
    bits = np.random.Philox(key=[seed, (scene % 2**24) << 40 | segment], counter=[0, 0, 0, stream])
    return np.random.Generator(bits).standard_normal(shape, np.float32)
