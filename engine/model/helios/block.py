"""Helios' transformer block: Wan 2.1's, with history at timestep 0 and text for the noisy tokens only.

Modulations have two rows, one for the history and one for the noisy tokens. They are expanded to tokens where
they are used. Modulation and norms compute in fp32. Module names are those of the checkpoint.

Legend: B batch, N tokens of history and segment together, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.blocks import Up
from engine.model.helios.attention import CrossAttention, SelfAttention
from engine.model.rope import Rope

EPSILON = 1e-6


class Layout(NamedTuple):
    """The number of history tokens, and each token's row of a modulation (N,): 0 history, 1 noisy."""

    history: int
    row: Tensor


class CrossInputs(NamedTuple):
    """What the noisy tokens attend to besides the video: text (B, T, D), and ψ (B, M, D) or None."""

    text: Tensor
    psi: Tensor | None


class TokenModulation(NamedTuple):
    """How one sub-layer is modulated. Each is (B, 2, D)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def enter(self, z: Tensor, layout: Layout) -> Tensor:
        """LayerNorm without affine, then scale and shift."""
        normed = F.layer_norm(z.float(), z.shape[-1:], eps=EPSILON)
        scale, shift = (x.index_select(1, layout.row) for x in (self.scale, self.shift))
        return (normed * (1 + scale) + shift).to(z.dtype)

    def add(self, z: Tensor, out: Tensor, layout: Layout) -> Tensor:
        """z plus the gated output of the sub-layer."""
        return (z.float() + out.float() * self.gate.index_select(1, layout.row)).to(z.dtype)


class FeedForward(nn.Module):
    """Linear, GELU (tanh), Linear."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Up(dim, width), nn.Identity(), nn.Linear(width, dim)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[2](F.gelu(self.net[0](x), approximate="tanh"))
        return out


class WideNorm(nn.LayerNorm):
    """An affine LayerNorm that always computes in fp32."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class HeliosBlock(nn.Module):
    def __init__(self, dim: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        self.attn1 = SelfAttention(dim, heads)
        self.norm2 = WideNorm(dim, eps=EPSILON)
        self.attn2 = CrossAttention(dim, heads)
        self.ffn = FeedForward(dim, feed_forward)

    def forward(
        self, z: Tensor, *, cross: CrossInputs, gate: Tensor | None, time: Tensor, layout: Layout, rope: Rope
    ) -> Tensor:
        """z (B, N, D) with history tokens first; time (B, 2, 6, D) for both rows; gate (), this block's for
        ψ."""
        attention, feed_forward = self._modulations(time)
        z = attention.add(z, self.attn1(attention.enter(z, layout), rope), layout)
        past, noisy = z[:, : layout.history], z[:, layout.history :]
        noisy = noisy + self.attn2(self.norm2(noisy), cross.text, cross.psi, gate)
        z = torch.cat([past, noisy], 1)
        return feed_forward.add(z, self.ffn(feed_forward.enter(z, layout)), layout)

    def _modulations(self, time: Tensor) -> tuple[TokenModulation, TokenModulation]:
        vectors = (self.scale_shift_table.float()[:, None] + time.float()).unbind(2)
        return TokenModulation(*vectors[:3]), TokenModulation(*vectors[3:])
