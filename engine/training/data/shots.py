"""Where a video is cut, and which of its shots move enough to learn from: by differences between frames.

A cut is a difference that is large, and large against those around it: a walk through a city differs much
from frame to frame, too, but always. A shot in which hardly anything moves, or nothing stays, teaches
little; so the paper filters by dynamism. PySceneDetect would do the cuts as well, and bring OpenCV with a
window system along.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CUT = 0.08  # difference of a cut, of 1 between black and white
AGAINST = 4.0  # and so many times the median around it
AROUND = 8  # frames on either side
STILL, WILD = 0.001, 0.08  # mean difference of a shot that is too calm, too restless


class Shot(NamedTuple):
    start: int  # frame
    stop: int
    motion: float  # mean difference between its frames


def differences(frames: Tensor, before: Tensor | None = None) -> Tensor:
    """(T, 3, H, W) uint8 → (T,) in 0 … 1: against the frame before, at an eighth of the size; 0 for the
    first."""
    if before is not None:
        frames = torch.cat([before[None], frames])
    small = F.avg_pool2d(frames.float() / 255, 8)
    d = (small[1:] - small[:-1]).abs().mean((1, 2, 3))
    return d if before is not None else torch.cat([torch.zeros(1), d])


def find_shots(d: Tensor, least: int) -> list[Shot]:
    """Shots of at least `least` frames that move enough and not too much, from all of a video's
    differences."""
    padded = torch.cat([d[:1].expand(AROUND), d, d[-1:].expand(AROUND)])
    around = padded.unfold(0, 2 * AROUND + 1, 1).median(1).values
    cuts = [0, *((d > CUT) & (d > AGAINST * around)).nonzero()[:, 0].tolist(), len(d)]
    out = []
    for start, stop in pairwise(cuts):
        if stop - start >= max(2, least):
            motion = float(d[start + 1 : stop].mean())
            if STILL <= motion <= WILD:
                out.append(Shot(start, stop, motion))
    return out
