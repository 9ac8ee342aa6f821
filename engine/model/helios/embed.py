"""Inputs of Helios' blocks besides latents: embeddings of time and text, and the tokens' rotations.

Module names are those of the checkpoint. Legend: B batch, D width, T text tokens, E their width, N tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.helios.config import FREQUENCIES, HeliosConfig
from engine.model.packing import POOL, pieces
from engine.model.rope import Rope, grid, pool


class TimeEmbed(nn.Module):
    """Sinusoids of a timestep, cosines first, then Linear, SiLU, Linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(FREQUENCIES, dim), nn.Linear(dim, dim)

    def forward(self, timestep: Tensor) -> Tensor:
        """(B,) → (B, D)."""
        half = FREQUENCIES // 2
        steps = torch.arange(half, device=timestep.device, dtype=torch.float32) / half
        phase = timestep.float()[:, None] * torch.exp(-math.log(10000) * steps)
        waves = torch.cat([phase.cos(), phase.sin()], -1).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return out


class TextEmbed(nn.Module):
    """Linear, GELU (tanh), Linear: (B, T, E) → (B, T, D)."""

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(text_dim, dim), nn.Linear(dim, dim)

    def forward(self, text: Tensor) -> Tensor:
        out: Tensor = self.linear_2(F.gelu(self.linear_1(text), approximate="tanh"))
        return out


class ConditionEmbed(nn.Module):
    def __init__(self, c: HeliosConfig) -> None:
        super().__init__()
        self.time_embedder = TimeEmbed(c.dim)
        self.time_proj = nn.Linear(c.dim, 6 * c.dim)
        self.text_embedder = TextEmbed(c.text_dim, c.dim)

    def time(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) → the embedding of the time (B, D), and its six vectors for the blocks (B, 6, D)."""
        time = self.time_embedder(timestep).to(self.time_proj.weight.dtype)
        vectors: Tensor = self.time_proj(F.silu(time)).unflatten(-1, (6, -1))
        return time, vectors


class Positions(nn.Module):
    """Rotations of the history, which has full resolution in every stage, and of the noisy tokens.

    They are constants, equal for all segments. Noisy tokens count from 0 in every stage, so those of a small
    stage are a corner of the largest one's."""

    history: Tensor  # (2, N, head_dim / 2)
    noisy: Tensor  # (2, W, h / 2, w / 2, head_dim / 2)

    def __init__(self, c: HeliosConfig) -> None:
        super().__init__()
        found, noisy = pieces(c.packing, c.segment)

        def turn(first: int, count: int, kernel: str) -> Tensor:
            times = range(first, first + count)
            r = grid(times, c.latent_height // 2, c.latent_width // 2, c.rope_axes, c.rope_theta)
            return pool(r, POOL[kernel])

        past = [turn(found[k].first, found[k].frames, k) for k in ("4x", "2x")]
        past += [turn(0, 1, "1x"), turn(found["1x"].first, found["1x"].frames, "1x")]
        self.register_buffer("history", torch.cat([p.flatten(1, 3) for p in past], 1), persistent=False)
        self.register_buffer("noisy", turn(noisy, c.segment, "1x"), persistent=False)

    def forward(self, rows: int, columns: int) -> Rope:
        """The rotation of the history and of a noisy grid of that many tokens, (1, 1, N, head_dim / 2)
        each."""
        corner = self.noisy[:, :, :rows, :columns].flatten(1, 3)
        cos, sin = torch.cat([self.history, corner], 1)[:, None, None]
        return Rope(cos, sin)
