"""Preconditioning around the last clean latent, for small models and budgets.

A plain network must learn to carry an unchanged picture through six blocks before it learns anything else.
Here it answers a target of unit variance at every t, given the prior x ~ N(base, S). With
D = S t² + (1 − t)² and K = S t²/D, the mean of x given x_t is base + K (x_t/t − base), its variance
S (1 − K), and the network answers how far x is from that mean, in deviations. Written as the
velocity u = (x − x_t)/(1 − t), with everything that could divide by zero cancelled:

    answer = √(D/S) · u + [(1 − t − S t) x_t − (1 − t) base] / √(S D)

D lies between S/(1 + S) and 1, so this is finite from t = 0 to t = 1, both included, and errors of the answer
are errors of the velocity times a factor near one. S = 0 turns it off: the network answers the velocity, as
public checkpoints do. Ours, not the paper's.

What is certain can be told so: `carried` turns the prior of each latent cell into another one, around a
mixture of the moved layers and with less variance, by numbers that the network gives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.model.flow import wide

CERTAIN = 0.03  # variance of what just goes on: the autoencoder's own noise, rain


class Precondition(nn.Module):
    def __init__(self, variance: float) -> None:
        super().__init__()
        self.variance = variance

    def velocity(self, x: Tensor, t: Tensor, net: Tensor, base: Tensor, context: Tensor) -> Tensor:
        """What an answer of the network at (x, t) says about the velocity. Without context the prior is
        N(0, 1)."""
        if not self.variance:
            return net
        gain, offset = self._line(x, t, base, context)
        return (net - offset) / gain

    def answer(self, x: Tensor, t: Tensor, velocity: Tensor, base: Tensor, context: Tensor) -> Tensor:
        """The inverse: what the network should answer at (x, t) for this velocity. Losses compare answers."""
        if not self.variance:
            return velocity
        gain, offset = self._line(x, t, base, context)
        return gain * velocity + offset

    def carried(
        self, x: Tensor, t: Tensor, base: Tensor, moved: Tensor, share: Tensor, context: Tensor
    ) -> Tensor:
        """What is to be added to an answer for cells that know better than the prior.

        moved (B, W, K, C, h, w) are the candidates of engine.model.wander.hints, the last latent first; share
        (B, W, K, h, w) how far each of the others replaces it as the prior's mean, and how far the
        variance falls from S to CERTAIN. Shares of 0 add nothing; a share of 1 is that other prior."""
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
