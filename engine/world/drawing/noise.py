"""Deterministic randomness: integer hashing, value noise, and items scattered over a line that loops.

Everything is a pure function of (seed, position, salt). So a place looks the same on every visit, in any
order and on every device. What is drawn with it is unknown here.

Shapes: N frames, W columns. `seed` is (N, 1) int64 against positions (N, W).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LOOP_PX = 1280  # after which a layer's scenery repeats, in px of the layer

_MASK = 0xFFFFFFFF


def hash32(seed: Tensor, cell: Tensor, salt: int) -> Tensor:
    """Hash integers to 32 well-distributed bits (int64, non-negative)."""
    h = (seed * 0x9E3779B1 + cell * 0x85EBCA77 + salt * 0xC2B2AE3D) & _MASK
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & _MASK
    h = ((h ^ (h >> 15)) * 0x846CA68B) & _MASK
    return h ^ (h >> 16)


def hash01(seed: Tensor, cell: Tensor, salt: int) -> Tensor:
    """Uniform float32 in [0, 1). It has 24 bits, so the conversion is exact."""
    return (hash32(seed, cell, salt) >> 8).float() * 2.0**-24


def pick(seed: Tensor, cell: Tensor, salt: int, options: int) -> Tensor:
    """Uniform integer in [0, options)."""
    return (hash32(seed, cell, salt) >> 4) % options


def wave(x: Tensor, period: float, seed: Tensor, salt: int, *, smooth: bool = True) -> Tensor:
    """Value noise in [-1, 1]: round if `smooth`, otherwise made of straight edges."""
    count = _whole(period)
    t = x * (count / LOOP_PX)
    cell = t.floor()
    f = t - cell
    if smooth:
        f = f * f * (3 - 2 * f)
    index = cell.long()
    left, right = hash01(seed, index % count, salt), hash01(seed, (index + 1) % count, salt)
    return torch.lerp(left, right, f) * 2 - 1


def _whole(period: float) -> int:
    """How often about this period fits into the loop."""
    return max(1, round(LOOP_PX / period))


def ridge(
    x: Tensor, period: float, seed: Tensor, salt: int, *, octaves: int = 3, smooth: bool = True
) -> Tensor:
    """Octaves of `wave` in [-1, 1], each half as high and slightly more than twice as dense as the last."""
    total = torch.zeros_like(x)
    weight = 0.0
    for octave in range(octaves):
        amplitude = 0.5**octave
        total = total + amplitude * wave(x, period / 2.17**octave, seed, salt + octave, smooth=smooth)
        weight += amplitude
    return total / weight


class Cells(NamedTuple):
    """The scattered item that each position belongs to."""

    local: Tensor  # (N, W) signed distance to the item's middle, px
    number: Tensor  # (N, W) int64


def cells(x: Tensor, spacing: float, seed: Tensor, salt: int, *, jitter: float = 0.0) -> Cells:
    """Divide the line into equal cells with one item in each, at most `jitter` px from the cell's middle.

    An item's middle is a whole pixel, so its edges are equally sharp everywhere.
    """
    count = _whole(spacing)
    spacing = LOOP_PX / count
    index = (x / spacing).floor()
    middle = ((index + 0.5) * spacing).round()
    cell = index.long() % count
    if jitter:
        middle = middle + ((hash01(seed, cell, salt) * 2 - 1) * jitter).round()
    return Cells(x - middle, cell)
