"""Finds the shots of a video, and those that move enough to learn from, by differences between frames.

A cut is a difference that is large both absolutely and relative to those around it. (In a walk through a city
all differences are large.) Shots with hardly any motion or with too much of it teach little, so the paper
filters by dynamism. PySceneDetect can find cuts too, but needs OpenCV and its window system.

Legend: T frames, H W pixels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CUT = 0.08  # least difference of a cut, where black and white differ by 1
AGAINST = 4.0  # and this many times the median around it
AROUND = 8  # frames on either side
STILL, WILD = 0.001, 0.08  # mean difference below which a shot is too calm, above which too restless


class Shot(NamedTuple):
    start: int  # frame
    stop: int
    motion: float  # mean difference between its frames


def differences(frames: Tensor, before: Tensor | None = None) -> Tensor:
    """(T, 3, H, W) uint8 → (T,) in 0 … 1: each frame's difference to the previous one, at an eighth of the
    size. It is 0 for the first frame."""
    if before is not None:
        frames = torch.cat([before[None], frames])
    small = F.avg_pool2d(frames.float() / 255, 8)
    d = (small[1:] - small[:-1]).abs().mean((1, 2, 3))
    return d if before is not None else torch.cat([torch.zeros(1), d])


def find_shots(d: Tensor, least: int) -> list[Shot]:
    """The shots of a video that have at least `least` frames and move enough but not too much, from the
    differences of all its frames."""
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
