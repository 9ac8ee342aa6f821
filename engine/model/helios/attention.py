"""Attention as in Wan 2.1, with RMSNorm of queries and keys over all heads together. Module names are those
of the checkpoint.

Legend: B batch, N tokens, D width, M memory tokens.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from engine.model.blocks import RmsNorm, attend
from engine.model.rope import Rope, rotate


class WanAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attend: Callable[[Tensor, Tensor, Tensor], Tensor] = (
            attend  # engine.model.helios.kernels has others
        )
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
        """Full attention among all tokens: (B, N, D) → (B, N, D)."""
        k, v = self.key_value(x)
        out: Tensor = self.to_out[0](self.attend(rotate(self.query(x), *rope), rotate(k, *rope), v))
        return out


class CrossAttention(WanAttention):
    def forward(self, x: Tensor, text: Tensor, psi: Tensor | None, gate: Tensor | None) -> Tensor:
        """x (B, N, D) attends to text (B, T, D), and separately to ψ (B, M, D), weighted by `gate`.

        ψ uses the text's projections, so the gate is its only weight. With a gate of 0 the result is that of
        the text alone, bit for bit."""
        q = self.query(x)
        mixed = self.attend(q, *self.key_value(text))
        if psi is not None and gate is not None:
            mixed = mixed + gate.to(mixed.dtype) * self.attend(q, *self.key_value(psi))
        out: Tensor = self.to_out[0](mixed)
        return out
