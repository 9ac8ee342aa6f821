"""A segment in progress: its inputs, its progress, and the state of its session after it.

Until `commit` the state is only read. So a draft can be dropped at any time, and a failed call can be
retried. This module knows no backends, sessions or time.

Legend: W latent frames of a segment, C channels, h w latent size, F pixel frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.backends.base import Sampler
from engine.runtime.state.state import SessionState, fixed
from engine.types import ByteArray, FloatArray


@dataclass
class StateUpdate:
    """The new values of a state. `anchor` and `image` only if this segment is the first of its scene."""

    memory: FloatArray  # (M, D)
    psi: FloatArray  # (M, D)
    anchor: FloatArray | None = None  # (1, C, h, w)
    image: FloatArray | None = None  # (I, D)
    places: Kept | None = None  # for models that know their camera's position


class Kept(NamedTuple):
    """Structure W after a segment."""

    odometer: int
    views: FloatArray  # (P, C, h)
    marks: FloatArray  # (P, 4)
    named: FloatArray  # (Q,)


@dataclass
class Sampled:
    """A sampler (engine.backends.base) of latents that are clean already."""

    x: FloatArray  # (W, C, h, w)
    role: str = ""
    calls_left: int = 0

    def told(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    def advance(self, answer: FloatArray) -> None:
        raise ValueError("no call is left")


@dataclass
class Draft:
    state: SessionState
    sampler: Sampler
    action: int
    row: Mapping[str, npt.NDArray[Any]]  # the draft's row of the constant inputs of `denoise`
    frames: ByteArray | None = None  # (F, H, W, 3) RGB, once decoded
    decoder: FloatArray | None = None  # the decoder's state after it
    outcome: StateUpdate | None = None  # once `memorize` and `squeeze` have run

    @property
    def x(self) -> FloatArray:
        """(W, C, h, w): noise at first, clean latents at the end."""
        return self.sampler.x

    @property
    def steps_left(self) -> int:
        return self.sampler.calls_left

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.x).all())

    def commit(self) -> None:
        """Advance the state by this segment. Cannot fail, and copies only the segment's latents."""
        state, after = self.state, self.outcome
        assert after is not None
        assert self.decoder is not None
        if after.anchor is not None and after.image is not None:
            state.anchor, state.image, state.context = after.anchor, after.image, 1
        state.append(self.x, after.memory)
        state.psi, state.decoder = after.psi, self.decoder
        state.acted = self.action
        if after.places is not None:
            state.odometer = after.places.odometer
            state.views, state.marks = after.places.views, after.places.marks
            state.landmarks, state.named = self.row["landmarks"], after.places.named
        if not state.psi_mask.all():
            state.psi_mask = fixed(np.ones_like(state.psi_mask))
