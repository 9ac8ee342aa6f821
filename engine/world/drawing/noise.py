"""Deterministic chance: integer hashing, value noise and scattered cells on an endless line.

Everything is a pure function of (seed, position, salt), so a place looks the same whenever and in whatever
order it is visited, on every device. Knows nothing about what is drawn with it.

Shapes: N frames, W columns. `seed` is (N, 1) int64 against positions (N, W).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def hash32(seed: Tensor, cell: Tensor, salt: int) -> Tensor:
    """Mix integers into 32 well spread bits (int64, non-negative)."""
    h = (seed * 0x9E3779B1 + cell * 0x85EBCA77 + salt * 0xC2B2AE3D) & _MASK
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & _MASK
    h = ((h ^ (h >> 15)) * 0x846CA68B) & _MASK
    return h ^ (h >> 16)


def hash01(seed: Tensor, cell: Tensor, salt: int) -> Tensor:
    """Uniform float32 in [0, 1); 24 bits, so the conversion is exact."""
    return (hash32(seed, cell, salt) >> 8).float() * 2.0**-24


def pick(seed: Tensor, cell: Tensor, salt: int, options: int) -> Tensor:
    """Uniform integer in [0, options)."""
    return (hash32(seed, cell, salt) >> 4) % options


def wave(x: Tensor, period: float, seed: Tensor, salt: int, *, smooth: bool = True) -> Tensor:
    """Value noise in [-1, 1]: rolling when smooth, made of straight edges when not."""
    t = x / period
    cell = t.floor()
    f = t - cell
    if smooth:
        f = f * f * (3 - 2 * f)
    index = cell.long()
    return torch.lerp(hash01(seed, index, salt), hash01(seed, index + 1, salt), f) * 2 - 1


def ridge(
    x: Tensor, period: float, seed: Tensor, salt: int, *, octaves: int = 3, smooth: bool = True
) -> Tensor:
    """Octaves of `wave`, each half as high and a bit more than twice as dense; within [-1, 1]."""
    total = torch.zeros_like(x)
    weight = 0.0
    for octave in range(octaves):
        amplitude = 0.5**octave
        total = total + amplitude * wave(x, period / 2.17**octave, seed, salt + octave, smooth=smooth)
        weight += amplitude
    return total / weight


class Cells(NamedTuple):
    """For every position the one scattered item it belongs to."""

    local: Tensor  # (N, W) signed distance to the item's middle, px
    number: Tensor  # (N, W) int64


def cells(x: Tensor, spacing: float, seed: Tensor, salt: int, *, jitter: float = 0.0) -> Cells:
    """Cut the line into equal cells with one item in each, `jitter` px off the middle at most.

    Whole-pixel middles keep edges equally sharp wherever the item stands.
    """
    index = (x / spacing).floor()
    middle = ((index + 0.5) * spacing).round()
    cell = index.long()
    if jitter:
        middle = middle + ((hash01(seed, cell, salt) * 2 - 1) * jitter).round()
    return Cells(x - middle, cell)
