"""Compresses a word table by product quantisation (Jégou et al., 2011) of its principal components.

Rows are rotated so that columns become uncorrelated, with the largest variance first. Columns are divided
into groups that carry the same number of bits: few columns with large variance, or many with small variance.
In each group k-means (Lloyd) finds 256 pieces that all rows share, and a row stores one byte per group.
Legend: V vocabulary, E width, G groups.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from engine.model.text.word_table import PIECES

SAMPLE: Final = 16384  # rows used to find pieces, half of them among the common ones
COMMON: Final = 12000  # the first rows, which belong to common words
ROUNDS: Final = 12


def cut(table: Tensor, groups: int, *, seed: int = 0) -> dict[str, Tensor]:
    """(V, E) → the tensors that `engine.model.text.word_table` reads. Deterministic for a seed."""
    generator = torch.Generator().manual_seed(seed)
    centre = table.mean(0).half()
    variance, turn = torch.linalg.eigh(torch.cov(table.T))
    turn = turn.flip(1).half()
    group = allocate(variance.flip(0), groups)
    columns = (table - centre.float()) @ turn.float()
    codes, pieces = [], []
    for i in range(groups):
        part = columns[:, group == i]
        found = means(part[sample(len(part), generator)], generator).half()
        codes.append(nearest(part, found.float()) - PIECES // 2)
        pieces.append(found)
    return {
        "codes": torch.stack(codes, 1).to(torch.int8),
        "pieces": torch.cat(pieces, 1),
        "group": group.to(torch.int8),
        "turn": turn.T.contiguous(),
        "centre": centre,
    }


def allocate(variance: Tensor, groups: int) -> Tensor:
    """Variances of columns (E,), largest first → the group of each column, (E,), in order. Every group gets a
    column.

    A column carries ½ log₂(variance / error) bits, with one error for all columns, chosen so that the groups
    have 8 bits each (reverse water-filling)."""
    variance = variance.double().clamp(min=1e-12)
    low, high = variance.min() * 2.0**-32, variance.max()
    for _ in range(80):
        level = (low * high).sqrt()
        bits = 0.5 * (variance / level).clamp(min=1).log2()
        low, high = (level, high) if bits.sum() > 8 * groups else (low, level)
    total_bits = 0.5 * (variance / high).clamp(min=1).log2().cumsum(0)
    group = ((total_bits / total_bits[-1] * groups - 1e-6).ceil().long() - 1).clamp(0, groups - 1)
    group[0] = 0
    for i in range(1, len(group)):  # skip no group
        group[i] = group[i].clamp(max=int(group[i - 1]) + 1)
    at_least = torch.arange(len(group)) - (len(group) - groups)  # leave a column for each of the last groups
    return torch.maximum(group, at_least)


def sample(rows: int, generator: torch.Generator) -> Tensor:
    """Indices of the rows used to find pieces."""
    common = torch.randperm(min(COMMON, rows), generator=generator)[: SAMPLE // 2]
    return torch.cat([common, torch.randperm(rows, generator=generator)[: SAMPLE - len(common)]])


def means(points: Tensor, generator: torch.Generator) -> Tensor:
    """Points (N, D) → 256 means (256, D), by k-means. A mean without points moves to a random point."""

    def some() -> Tensor:
        return points[torch.randint(len(points), (PIECES,), generator=generator)]

    centres = some()
    for _ in range(ROUNDS):
        which = nearest(points, centres)
        count = which.bincount(minlength=PIECES)[:, None]
        total = torch.zeros_like(centres).index_add_(0, which, points)
        centres = torch.where(count > 0, total / count.clamp(min=1), some())
    return centres


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The index of the nearest centre of each point (N, D), (N,)."""
    return (centres.square().sum(1) - 2 * points @ centres.T).argmin(1)
