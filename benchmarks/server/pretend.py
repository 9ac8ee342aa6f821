"""`psistream bench latency --pretend S`: the fake device with Helios' shape, at S seconds per segment.

Steering at a segment of 1.4 s of video can be felt and measured so, on any machine. The seconds are shared
out as the arithmetic is: a sixth for decoding, the rest among the calls of the three stages.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

DECODE = 1 / 6
TFLOP = (69.7, 119.1, 359.5)  # of a call in each stage (engine.model.helios.cost, which needs torch)
MOST_S = 60.0


def costs(segment_s: float) -> dict[str, tuple[float, float]]:
    """Role → seconds per call, and per row, for a segment of [2, 2, 2] calls that takes `segment_s`."""
    per_tflop_s = (1 - DECODE) * segment_s / (2 * sum(TFLOP))
    found = {f"denoise_{k}": (per_tflop_s * tflop, 0.0) for k, tflop in enumerate(TFLOP)}
    return {**found, "decode": (DECODE * segment_s, 0.0)}


@contextlib.contextmanager
def pretended(segment_s: float) -> Iterator[Path]:
    """A folder for `--backend fake --model`, removed at the end."""
    with tempfile.TemporaryDirectory() as made:
        settings = {"shape": "helios", "costs": costs(segment_s)}
        (Path(made) / "fake.json").write_text(json.dumps(settings), encoding="utf-8")
        yield Path(made)
