"""Preconditioning around the last clean latent, for small models and budgets.

Without it, a network must first learn to pass an unchanged picture through six blocks. With it, the target
has unit variance at every t, given the prior x ~ N(base, S). With D = S t² + (1 − t)² and K = S t²/D, the
mean of x given x_t is base + K (x_t/t − base) and its variance is S (1 − K). The network predicts the
distance of x from that mean in standard deviations. In terms of the velocity u = (x − x_t)/(1 − t), after
cancelling all terms that could divide by zero:

    answer = √(D/S) · u + [(1 − t − S t) x_t − (1 − t) base] / √(S D)

D lies between S/(1 + S) and 1. So this is finite for all t from 0 to 1, and an error of the answer is an
error of the velocity times a factor near one. S = 0 turns preconditioning off: the network then answers the
velocity, as public checkpoints do. This is ours, not the paper's.

`carried` changes the prior of each latent cell by numbers that the network gives: its mean becomes a mixture
of the moved layers, and its variance shrinks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.model.flow import wide

CERTAIN = 0.03  # variance where a picture simply continues: the autoencoder's noise, rain


class Precondition(nn.Module):
    def __init__(self, variance: float) -> None:
        super().__init__()
        self.variance = variance

    def velocity(self, x: Tensor, t: Tensor, net: Tensor, base: Tensor, context: Tensor) -> Tensor:
        """The velocity that the network's answer at (x, t) stands for. Without context the prior is N(0,
        1)."""
        if not self.variance:
            return net
        gain, offset = self._line(x, t, base, context)
        return (net - offset) / gain

    def answer(self, x: Tensor, t: Tensor, velocity: Tensor, base: Tensor, context: Tensor) -> Tensor:
        """The inverse: the answer at (x, t) that stands for this velocity. Losses compare answers."""
        if not self.variance:
            return velocity
        gain, offset = self._line(x, t, base, context)
        return gain * velocity + offset

    def carried(
        self, x: Tensor, t: Tensor, base: Tensor, moved: Tensor, share: Tensor, context: Tensor
    ) -> Tensor:
        """The term that adapts an answer to another prior in each cell.

        moved (B, W, K, C, h, w) are the candidates of engine.model.wander.hints, the last latent first. share
        (B, W, K, h, w) says how far each of the others replaces it as the prior's mean, and last how far the
        variance falls from S to CERTAIN. Shares of 0 add nothing; a share of 1 is exactly the other prior."""
        t = wide(t, x)
        s = torch.where(wide(context, x) > 0.5, self.variance, 1.0)
        d, certain = s * t**2 + (1 - t) ** 2, CERTAIN * t**2 + (1 - t) ** 2
        mean = base + (share[:, :, :-1, None] * (moved[:, :, 1:] - base[:, :, None])).sum(2)
        nearer = (1 - t) * (mean - base) / (s * d).sqrt()
        surer = (s - CERTAIN) * t * (1 - t) / (certain * (s * d).sqrt()) * (t * mean - x)
        return nearer + share[:, :, -1, None] * surer

    def _line(self, x: Tensor, t: Tensor, base: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """answer = gain · velocity + offset; gain (B, 1, 1, 1, 1), offset like x."""
        t = wide(t, x)
        s = torch.where(wide(context, x) > 0.5, self.variance, 1.0)
        d = s * t**2 + (1 - t) ** 2
        return (d / s).sqrt(), ((1 - t - s * t) * x - (1 - t) * base) / (s * d).sqrt()
