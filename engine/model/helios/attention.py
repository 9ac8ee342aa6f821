"""Attention as in Wan 2.1: RMSNorm of queries and keys over all heads together. Names are the checkpoint's.

Legend: B batch, N tokens, D width, M memory tokens.
"""

from __future__ import annotations

from torch import Tensor, nn

from engine.model.blocks import RmsNorm, attend
from engine.model.rope import Rope, rotate


class WanAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q, self.norm_k = RmsNorm(dim), RmsNorm(dim)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, heads, N, head_dim)."""
        heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads

    def query(self, x: Tensor) -> Tensor:
        return self.split(self.norm_q(self.to_q(x)))

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(self.norm_k(self.to_k(x))), self.split(self.to_v(x))


class SelfAttention(WanAttention):
    def forward(self, x: Tensor, rope: Rope) -> Tensor:
        """All tokens see each other, without a mask: (B, N, D) → (B, N, D)."""
        k, v = self.key_value(x)
        out: Tensor = self.to_out[0](attend(rotate(self.query(x), *rope), rotate(k, *rope), v))
        return out


class CrossAttention(WanAttention):
    def forward(self, x: Tensor, text: Tensor, psi: Tensor | None, gate: Tensor | None) -> Tensor:
        """x (B, N, D) reads text (B, T, D), and ψ (B, M, D) in an attention of its own, weighted by `gate`.

        ψ is read through the text's own projections, so it adds no weights but the gate; at a gate of 0 the
        sum is the text's part, bit for bit."""
        q = self.query(x)
        mixed = attend(q, *self.key_value(text))
        if psi is not None and gate is not None:
            mixed = mixed + gate.to(mixed.dtype) * attend(q, *self.key_value(psi))
        out: Tensor = self.to_out[0](mixed)
        return out
