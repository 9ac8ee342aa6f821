"""A segment in progress: what it is made from, how far it is, and what its session's state will be after it.

Until `commit` the state is only read. So a draft can be dropped at any time, and whatever fails can be tried
again. Backends, sessions and time are unknown here.

Legend: W latent frames of a segment, C channels, h w latent size, F pixel frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.base import Sampler
from engine.runtime.state.state import SessionState, fixed
from engine.types import ByteArray, FloatArray


@dataclass
class Outcome:
    """What a state becomes. `anchor` and `image` only if this segment is the first of its scene."""

    memory: FloatArray  # (M, D)
    psi: FloatArray  # (M, D)
    anchor: FloatArray | None = None  # (1, C, h, w)
    image: FloatArray | None = None  # (I, D)


@dataclass
class Draft:
    state: SessionState
    x: FloatArray  # (W, C, h, w): noise at first, clean latents at the end
    sampler: Sampler
    row: Mapping[str, npt.NDArray[Any]]  # the draft's row of the constant inputs of `denoise`
    k: int = 0  # steps done
    frames: ByteArray | None = None  # (F, H, W, 3) RGB, once decoded
    decoder: FloatArray | None = None  # the decoder's state after it
    outcome: Outcome | None = None  # once `memorize` and `squeeze` have run

    @property
    def steps_left(self) -> int:
        return len(self.sampler.times) - 1 - self.k

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.x).all())

    def commit(self) -> None:
        """Move the state on by this segment. Cannot fail, and copies no more than the segment's latents."""
        state, after = self.state, self.outcome
        assert after is not None
        assert self.decoder is not None
        if after.anchor is not None and after.image is not None:
            state.anchor, state.image, state.context = after.anchor, after.image, 1
        state.append(self.x, after.memory)
        state.psi, state.decoder = after.psi, self.decoder
        if not state.psi_mask.all():
            state.psi_mask = fixed(np.ones_like(state.psi_mask))
