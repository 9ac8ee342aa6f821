"""Sessions with two segments queued ahead, and what is seen of them."""

from __future__ import annotations

import numpy as np

from engine.backends.fake import FAKE_SPEC
from engine.config import RuntimeConfig
from engine.types import (
    Receipt,
    SegmentReady,
)
from tests.rigs.engine.fakes import Rig

SEGMENT_S = FAKE_SPEC.segment_s
AHEAD = RuntimeConfig(max_sessions=8, lead_min_s=2.2 * SEGMENT_S, lead_max_s=4 * SEGMENT_S)  # two are queued


def rigged(prompt: str = "a red city", seed: int = 3, **more: float) -> Rig:
    rig = Rig(config=AHEAD, **more)  # type: ignore[arg-type]
    rig.open(prompt=prompt, seed=seed)
    return rig


def sky(segment: SegmentReady) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Mean colour of the last frame's sky."""
    return np.asarray(segment.frames[-1, 20:60].mean((0, 1)))


def same(a: list[SegmentReady], b: list[SegmentReady]) -> bool:
    return [s.frames.tobytes() for s in a] == [s.frames.tobytes() for s in b]


def last_receipt(rig: Rig) -> Receipt:
    return rig.receipts()[-1]
