"""SemanticPack (arXiv 2510.01784, section 3.2): a long-term memory ψ of constant size.

ψₙ₊₁ = Squeeze(ψₙ, Memorize(xⁿ)) (Eq. 2). Memorize applies windowed self-attention to a segment and compacts
it to M tokens; Squeeze is cross-attention. ψ₀ = [text; image], and ψ always has M tokens. Depth, window,
number of tokens and positions are ours, since the paper gives none.

Legend: B batch, W latent frames, C channels, h w latent size, M memory tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.model.blocks import MASKED, Attention, FeedForward, attend
from engine.model.config import ModelConfig
from engine.model.packing import KERNELS, PatchEmbed


class CrossAttention(nn.Module):
    """Pre-norm attention of queries to a source, with a residual on the queries and a feed-forward."""

    def __init__(self, dim: int, heads: int, ratio: int = 2) -> None:
        super().__init__()
        self.norm, self.norm_source, self.norm_ff = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.ff = FeedForward(dim, ratio)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, N, D) attends to source (B, S, D). `mask` (B, S) is 1 for source tokens that count."""
        a, source = self.attn, self.norm_source(source)
        q = a.norm_q(a.split(a.to_q(self.norm(x))))
        k, v = a.norm_k(a.split(a.to_k(source))), a.split(a.to_v(source))
        bias = None if mask is None else (mask[:, None, None] - 1) * -MASKED
        x = x + a.to_out[0](attend(q, k, v, bias))
        out: Tensor = x + self.ff(self.norm_ff(x))
        return out


class Memorize(nn.Module):
    """A segment's latents → M tokens. It does not see the prompt, so its outputs can be kept and squeezed
    again under another one."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.shape = (c.segment, c.latent_height // 2, c.latent_width // 2)
        self.window = c.memory.window
        self.embed = PatchEmbed(c.channels, c.dim, KERNELS["1x"])
        tokens = self.shape[0] * self.shape[1] * self.shape[2]
        self.position = nn.Parameter(0.1 * torch.randn(1, tokens, c.dim))
        self.layers = nn.ModuleList([CrossAttention(c.dim, c.heads) for _ in range(c.memory.layers)])
        self.queries = nn.Parameter(0.5 * torch.randn(1, c.memory.tokens, c.dim))
        self.compact = CrossAttention(c.dim, c.heads)

    def forward(self, segment: Tensor) -> Tensor:
        """(B, W, C, h, w) → (B, M, D)."""
        b, (t, h, w), (wt, wh, ww) = segment.shape[0], self.shape, self.window
        x = self.embed(segment) + self.position
        d = x.shape[-1]
        x = x.reshape(b, t // wt, wt, h // wh, wh, w // ww, ww, d).permute(0, 1, 3, 5, 2, 4, 6, 7)
        x = x.reshape(-1, wt * wh * ww, d)
        for layer in self.layers:
            x = layer(x, x)
        out: Tensor = self.compact(self.queries.expand(b, -1, -1), x.reshape(b, -1, d))
        return out


class Squeeze(nn.Module):
    """ψₙ and m = Memorize(xⁿ) → ψₙ₊₁, normalised so that it cannot grow over many updates.

    Structure A is the paper's method: Q = m, K = V = ψₙ. B: Q = ψₙ, K = V = m. C: Q = ψₙ, K = V = [ψₙ; m].
    The paper names B and C; we found no formula for them, so these are ours."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.structure = c.memory.structure
        self.cross = CrossAttention(c.dim, c.heads)
        self.norm = nn.LayerNorm(c.dim)

    def forward(self, psi: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, M, D), (B, M, D) → (B, M, D). `mask` (B, M) is 1 for those of ψ's tokens that count."""
        if self.structure == "A":
            x = self.cross(memory, psi, mask)
        elif self.structure == "B":
            x = self.cross(psi, memory)
        else:
            seen = None if mask is None else torch.cat([mask, torch.ones_like(memory[..., 0])], 1)
            x = self.cross(psi, torch.cat([psi, memory], 1), seen)
        out: Tensor = self.norm(x)
        return out
