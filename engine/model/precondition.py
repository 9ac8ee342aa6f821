"""An exact reparametrisation of rectified flow around the last clean latent, for small models and budgets.

A plain network must learn to carry an unchanged picture through six blocks before it learns anything else.
Here it answers a target of unit variance at every t, given the prior x ~ N(base, S):
with r = ((1 − t)/t)² and K = S/(S + r), x̂ = base + K (x_t/t − base) + √(S (1 − K)) · net and
velocity = (x̂ − x_t)/(1 − t). S = 0 turns it off: the network answers the velocity, as public checkpoints do.
Ours, not the paper's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.model.config import ModelConfig

T_MIN, T_MAX = 1e-3, 0.98  # where the formulas would divide by zero


def _wide(value: Tensor) -> Tensor:
    """(B,) → (B, 1, 1, 1, 1)."""
    return value[:, None, None, None, None]


class Precondition(nn.Module):
    def __init__(self, variance: float) -> None:
        super().__init__()
        self.variance = variance

    def coefficients(self, t: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """K and √(S (1 − K)), each (B, 1, 1, 1, 1). Without context the prior is N(0, 1)."""
        t = _wide(t).clamp(T_MIN, T_MAX)
        s = torch.where(_wide(context) > 0.5, self.variance, 1.0)
        k = s / (s + ((1 - t) / t) ** 2)
        return k, (s * (1 - k)).sqrt()

    def estimate(self, x: Tensor, t: Tensor, net: Tensor, base: Tensor, context: Tensor) -> Tensor:
        """x̂, the clean segment that the network's answer stands for (Eq. 7's one-step estimate)."""
        if not self.variance:
            return x + (1 - _wide(t)) * net
        k, c = self.coefficients(t, context)
        return base + k * (x / _wide(t).clamp(T_MIN, T_MAX) - base) + c * net

    def velocity(self, x: Tensor, t: Tensor, net: Tensor, base: Tensor, context: Tensor) -> Tensor:
        """u = x̂ − ε, written (x̂ − x_t)/(1 − t)."""
        if not self.variance:
            return net
        return (self.estimate(x, t, net, base, context) - x) / (1 - _wide(t)).clamp(min=1 - T_MAX)


def shifted(base: Tensor, actions: Tensor, c: ModelConfig) -> Tensor:
    """The last clean latent moved by the camera motion that the actions ask for, once per parallax layer.

    base (B, 1, C, h, w), actions (B, W) → (B, W, layers · C, h, w). A hint that only a world with known
    camera speed can give; the network decides which layer a token belongs to, and draws what comes in at the
    edge.
    """
    b, w = actions.shape
    _, _, channels, height, width = base.shape
    right = (actions == c.actions.index("right")).long() - (actions == c.actions.index("left")).long()
    walked = right.cumsum(1)  # latent steps to the right by the end of each frame
    columns = torch.arange(width, device=base.device)
    layers = []
    for cells in c.shift_cells:
        column = (columns + cells * walked[:, :, None]).clamp(0, width - 1)  # (B, W, w)
        where = column[:, :, None, None, :].expand(b, w, channels, height, width)
        layers.append(base.expand(-1, w, -1, -1, -1).gather(4, where))
    return torch.cat(layers, 2)
