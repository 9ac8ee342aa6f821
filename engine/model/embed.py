"""Embeddings of scalars and of a pooled prompt: what modulates every block of the transformer.

The module names are those of the public checkpoints. Legend: B batch, D width, P width of the pooled prompt.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 128  # of the sinusoidal embedding of a scalar


class ScalarEmbed(nn.Module):
    """Sinusoids of 1000 times a scalar, cosines first, then Linear, SiLU, Linear. With `silent` the output
    starts at zero."""

    def __init__(self, dim: int, *, silent: bool = False) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(2 * FREQUENCIES, dim), nn.Linear(dim, dim)
        if silent:
            nn.init.zeros_(self.linear_2.weight)
            nn.init.zeros_(self.linear_2.bias)

    def forward(self, value: Tensor) -> Tensor:
        """(B,) → (B, D)."""
        steps = torch.arange(FREQUENCIES, device=value.device, dtype=torch.float32) / FREQUENCIES
        phase = 1000 * value.float()[:, None] * torch.exp(-math.log(10000) * steps)
        waves = torch.cat([phase.cos(), phase.sin()], -1).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return out


class TextProjection(nn.Module):
    """Linear, SiLU, Linear on a pooled prompt."""

    def __init__(self, pooled: int, dim: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(pooled, dim), nn.Linear(dim, dim)

    def forward(self, pooled: Tensor) -> Tensor:
        out: Tensor = self.linear_2(F.silu(self.linear_1(pooled)))
        return out


class TimeTextEmbed(nn.Module):
    """Embeds time, pooled prompt and, for checkpoints distilled with it, guidance; the sum modulates the
    blocks."""

    def __init__(self, dim: int, pooled: int, guidance: float | None = None) -> None:
        super().__init__()
        self.timestep_embedder = ScalarEmbed(dim)
        self.text_embedder = TextProjection(pooled, dim)
        self.guidance = guidance
        if guidance is not None:
            self.guidance_embedder = ScalarEmbed(dim)

    def forward(self, time: Tensor, pooled: Tensor) -> Tensor:
        """(B,), (B, P) → (B, D)."""
        out: Tensor = self.timestep_embedder(time) + self.text_embedder(pooled)
        if self.guidance is not None:
            out = out + self.guidance_embedder(torch.full_like(time, self.guidance))
        return out
