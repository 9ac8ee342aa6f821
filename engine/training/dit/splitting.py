"""Few-step generation by interval splitting: a long jump shall equal two shorter ones.

s(x_t, t, d) is the mean velocity over [t, t + d]. For d = 0 it is the velocity of rectified flow. For any
split of a jump D = h₁ + h₂, with x′ = x_t + h₁ s(x_t, t, h₁):

    s(x_t, t, D) = (h₁ s(x_t, t, h₁) + h₂ s(x′, t + h₁, h₂)) / D

The right side comes from the averaged model, without gradients, under the same conditions. t, D and the
split are continuous, as in SplitMeanFlow (arXiv 2507.16884). Learning it together with rectified flow in one
network comes from shortcut models (arXiv 2410.12557).
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model import flow
from engine.model.conditions import Conditions
from engine.model.wander.transformer import WanderDiT

LIMIT = 10.0  # normalised latents and noise lie within it; limits a teacher that diverges
EDGES = 0.25  # share of rows at t = 0, where sampling starts, and of jumps that end at t = 1


def split_times(rows: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """t ~ U(0, 1) and D ~ U(0, 1 − t), with extra weight on both edges. Each is (rows,)."""
    t, share, dice = torch.rand(3, rows, device=device)
    t = torch.where(dice < EDGES, 0.0, t)
    share = torch.where((dice * 7.0).frac() < EDGES, 1.0, share)
    return t, share * (1 - t)


@torch.no_grad()
def split_target(mean: WanderDiT, xt: Tensor, t: Tensor, d: Tensor, given: Conditions) -> Tensor:
    """The mean velocity over [t, t + d], by two jumps of the averaged model split at random. Shaped like
    xt."""
    share = torch.rand_like(t)
    first, second = share * d, (1 - share) * d
    a = mean(xt, t, first, given)
    middle = flow.advance(xt, a, first).clamp(-LIMIT, LIMIT)
    b = mean(middle, t + first, second, given)
    target: Tensor = flow.wide(share, xt) * a + flow.wide(1 - share, xt) * b
    return target
