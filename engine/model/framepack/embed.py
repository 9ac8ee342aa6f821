"""Prompts and reference images of the public checkpoints: HunyuanVideo's token refiner, SigLIP's features.

The module names are those of the public checkpoints. Legend: B batch, D width, N text tokens, I image tokens,
E width of the features that come in.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.blocks import MASKED, Attention, Up, attend
from engine.model.config import HunyuanConfig
from engine.model.embed import TimeTextEmbed


class ImageProjection(nn.Module):
    """SigLIP features → image tokens: Linear to 3 D, SiLU, Linear to D."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(features, 3 * dim), nn.Linear(3 * dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, I, E) → (B, I, D)."""
        out: Tensor = self.down(F.silu(self.up(features)))
        return out


class RefinerFeedForward(nn.Module):
    """Linear, SiLU, Linear."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Up(dim, ratio * dim), nn.Identity(), nn.Linear(ratio * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[2](F.silu(self.net[0](x)))
        return out


class Gates(nn.Module):
    """SiLU, Linear → the gates of attention and feed-forward, each (B, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)

    def forward(self, temb: Tensor) -> tuple[Tensor, Tensor]:
        attention, feed_forward = self.linear(F.silu(temb)).chunk(2, -1)
        return attention, feed_forward


class RefinerBlock(nn.Module):
    """Attention among a prompt's real tokens, then a feed-forward. Time and the prompt's mean gate both."""

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, qk_norm=False)
        self.ff = RefinerFeedForward(dim, ratio)
        self.norm_out = Gates(dim)

    def forward(self, x: Tensor, temb: Tensor, bias: Tensor) -> Tensor:
        gate_attn, gate_ff = self.norm_out(temb)
        x = x + gate_attn[:, None] * self.attn.to_out[0](attend(*self.attn.qkv(self.norm1(x)), bias))
        out: Tensor = x + gate_ff[:, None] * self.ff(self.norm2(x))
        return out


class Refiner(nn.Module):
    def __init__(self, dim: int, heads: int, ratio: int, layers: int) -> None:
        super().__init__()
        self.refiner_blocks = nn.ModuleList([RefinerBlock(dim, heads, ratio) for _ in range(layers)])


class TokenRefiner(nn.Module):
    """HunyuanVideo's text branch, `context_embedder` in the checkpoints. It depends on the time step."""

    def __init__(self, dim: int, heads: int, ratio: int, h: HunyuanConfig) -> None:
        super().__init__()
        self.time_text_embed = TimeTextEmbed(dim, h.text_dim)
        self.proj_in = nn.Linear(h.text_dim, dim)
        self.token_refiner = Refiner(dim, heads, ratio, h.refiner_layers)

    def forward(self, text: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """LLaMA tokens (B, N, E), mask (B, N) 1 for real tokens, time (B,) → (B, N, D). The rows of padding
        are meaningless: attention to them must be masked."""
        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        temb = self.time_text_embed(time, (text * share[..., None]).sum(1))
        x = self.proj_in(text)
        bias = (mask[:, None, None] - 1) * -MASKED
        for block in self.token_refiner.refiner_blocks:
            x = block(x, temb, bias)
        out: Tensor = x
        return out
