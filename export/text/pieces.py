"""A table of words → few bytes: product quantisation (Jégou et al., 2011) of its principal components.

Rows are turned so that columns no longer depend on each other, largest variance first, and cut into groups of
columns that are worth as many bits each: few columns of much variance, or many of little. In each group
k-means (Lloyd) finds the 256 pieces that all rows share, and a row keeps a byte per group.
Legend: V vocabulary, E width, G groups.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from engine.model.text.word_table import PIECES

SAMPLE: Final = 16384  # rows that pieces are found from: half of them common,
COMMON: Final = 12000  # which are the first so many
ROUNDS: Final = 12


def cut(table: Tensor, groups: int, *, seed: int = 0) -> dict[str, Tensor]:
    """(V, E) → what `engine.model.text.word_table` reads. The same seed gives the same."""
    generator = torch.Generator().manual_seed(seed)
    centre = table.mean(0).half()
    variance, turn = torch.linalg.eigh(torch.cov(table.T))
    turn = turn.flip(1).half()
    group = shared_out(variance.flip(0), groups)
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


def shared_out(variance: Tensor, groups: int) -> Tensor:
    """Variances of columns (E,), largest first → the group of each, (E,), in order and none without one.

    A column is worth ½ log₂ of how often it exceeds the error that all columns share, which is chosen so that
    the groups have 8 bits each (reverse water-filling)."""
    variance = variance.double().clamp(min=1e-12)
    low, high = variance.min() * 2.0**-32, variance.max()
    for _ in range(80):
        level = (low * high).sqrt()
        bits = 0.5 * (variance / level).clamp(min=1).log2()
        low, high = (level, high) if bits.sum() > 8 * groups else (low, level)
    worth = 0.5 * (variance / high).clamp(min=1).log2().cumsum(0)
    group = ((worth / worth[-1] * groups - 1e-6).ceil().long() - 1).clamp(0, groups - 1)
    group[0] = 0
    for i in range(1, len(group)):  # no group is left out,
        group[i] = group[i].clamp(max=int(group[i - 1]) + 1)
    at_least = torch.arange(len(group)) - (len(group) - groups)  # not even the last ones
    return torch.maximum(group, at_least)


def sample(rows: int, generator: torch.Generator) -> Tensor:
    """Numbers of rows to learn from."""
    common = torch.randperm(min(COMMON, rows), generator=generator)[: SAMPLE // 2]
    return torch.cat([common, torch.randperm(rows, generator=generator)[: SAMPLE - len(common)]])


def means(points: Tensor, generator: torch.Generator) -> Tensor:
    """Points (N, D) → 256 of their means (256, D). A mean that no point is nearest to moves to a point."""

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
    """Which centre each point (N, D) is nearest to, (N,)."""
    return (centres.square().sum(1) - 2 * points @ centres.T).argmin(1)
