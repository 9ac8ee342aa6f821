"""What steers the transformer besides pictures: time and text embeddings, prompts, image features.

Two kinds. The built-in world's: attribute slots and pieces of the anchor. The public checkpoints': LLaMA
tokens through HunyuanVideo's token refiner, CLIP's pooled vector, SigLIP's features, distilled guidance;
their names are the checkpoints' names.

Legend: B batch, D width, N text tokens, I image tokens, P width of the pooled prompt.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.blocks import MASKED, Attention, Modulation, Up, attend
from engine.model.config import HunyuanConfig, ModelConfig
from engine.model.packing import PatchEmbed

FREQUENCIES = 128  # of the sinusoidal embedding of a scalar


class ScalarEmbed(nn.Module):
    """Sinusoids of 1000 times a scalar, cosines first, then Linear, SiLU, Linear. `silent`: starts as a
    no-op."""

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
    """Time, pooled prompt and, for checkpoints that were distilled with it, guidance → the modulation."""

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


class TextSlots(nn.Module):
    """What a prompt says, as probabilities per attribute, → one token per attribute; side by side they are
    the pooled prompt."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.sizes = list(c.slots)
        self.tables = nn.ParameterList([nn.Parameter(0.5 * torch.randn(n, c.dim)) for n in c.slots])

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """(B, sum of classes) → text (B, N, D), pooled (B, N · D)."""
        parts = probabilities.split(self.sizes, -1)
        text = torch.stack([p @ table for p, table in zip(parts, self.tables, strict=True)], 1)
        return text, text.flatten(1)


class ImageTokens(nn.Module):
    """The anchor's latent → I image tokens for the condition stream and ψ₀; learned ones without it."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        rows, columns = c.memory.image_tokens
        self.embed = PatchEmbed(c.channels, c.dim, (1, c.latent_height // rows, c.latent_width // columns))
        self.position = nn.Parameter(0.1 * torch.randn(1, rows * columns, c.dim))
        self.absent = nn.Parameter(0.1 * torch.randn(1, rows * columns, c.dim))

    def forward(self, anchor: Tensor, context: Tensor) -> Tensor:
        """(B, 1, C, h, w), (B,) 1 where there is an anchor → (B, I, D)."""
        x = F.layer_norm(self.embed(anchor) + self.position, (self.position.shape[-1],))
        return torch.where(context[:, None, None] > 0.5, x, self.absent)


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
    """Linear, SiLU, Linear, with the checkpoints' names."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Up(dim, ratio * dim), nn.Identity(), nn.Linear(ratio * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[2](F.silu(self.net[0](x)))
        return out


class RefinerBlock(nn.Module):
    """Attention among a prompt's real tokens, then a feed-forward, both gated by time and the prompt's
    mean."""

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, qk_norm=False)
        self.ff = RefinerFeedForward(dim, ratio)
        self.norm_out = Modulation(dim, 2)  # gates only

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
    """HunyuanVideo's text branch, `context_embedder` of the checkpoints: LLaMA tokens → D, aware of time."""

    def __init__(self, dim: int, heads: int, ratio: int, h: HunyuanConfig) -> None:
        super().__init__()
        self.time_text_embed = TimeTextEmbed(dim, h.text_dim)
        self.proj_in = nn.Linear(h.text_dim, dim)
        self.token_refiner = Refiner(dim, heads, ratio, h.refiner_layers)

    def forward(self, text: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """(B, N, E), (B, N) 1 for real tokens, (B,) → (B, N, D). Rows of padding come out as noise; whoever
        attends to them must mask them."""
        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        temb = self.time_text_embed(time, (text * share[..., None]).sum(1))
        x = self.proj_in(text)
        bias = (mask[:, None, None] - 1) * -MASKED
        for block in self.token_refiner.refiner_blocks:
            x = block(x, temb, bias)
        out: Tensor = x
        return out
