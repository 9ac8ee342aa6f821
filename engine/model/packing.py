"""FramePack-F1 packing: recent latents at full detail, older ones through larger kernels (arXiv 2504.12626).

Index layout of a segment (F1, W noisy latents): anchor 0 | 16 at 4x: 1..16 | 2 at 2x: 17, 18 | 1 at 1x: 19 |
noisy 20 .. 19 + W. Token order: 4x, 2x, anchor, 1x, noisy; within a piece time, then height, then width.

Legend: B batch, T frames, C channels, h w latent size, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import ModelConfig
from engine.model.rope import angles, grid, pool

KERNELS = {"1x": (1, 2, 2), "2x": (2, 4, 4), "4x": (4, 8, 8)}


class PatchEmbed(nn.Module):
    """Non-overlapping 3-D patches → tokens. The weight has a Conv3d's shape, as in public checkpoints, but
    runs as one matrix product, which is what it is. Inputs that don't fit are replicate-padded at the far
    ends."""

    def __init__(self, channels: int, dim: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        conv = nn.Conv3d(channels, dim, kernel)
        self.kernel, self.weight, self.bias = kernel, conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C, h, w) → (B, N, D)."""
        kt, kh, kw = self.kernel
        x = x.transpose(1, 2)
        pad = [n for size, k in zip(reversed(x.shape[2:]), (kw, kh, kt), strict=True) for n in (0, -size % k)]
        if any(pad):
            x = F.pad(x, pad, mode="replicate")
        b, c, t, h, w = x.shape
        x = x.reshape(b, c, t // kt, kt, h // kh, kh, w // kw, kw).permute(0, 2, 4, 6, 1, 3, 5, 7)
        return F.linear(x.flatten(4).flatten(1, 3), self.weight.flatten(1), self.bias)


class CleanEmbed(nn.Module):
    """The three kernels of clean context, `clean_x_embedder` of the checkpoints."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = PatchEmbed(channels, dim, KERNELS["1x"])
        self.proj_2x = PatchEmbed(channels, dim, KERNELS["2x"])
        self.proj_4x = PatchEmbed(channels, dim, KERNELS["4x"])


class Positions(nn.Module):
    """The rotations of every visual token of a segment: constants, except the anchor's time."""

    before: Tensor
    anchor: Tensor
    after: Tensor

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.time_dim, self.theta, self.cap = c.rope_axes[0], c.rope_theta, c.packing.anchor_cap
        self.segment = c.segment
        n4, n2, n1 = c.packing.history
        rows, columns = c.latent_height // 2, c.latent_width // 2

        def piece(first: int, count: int, kernel: int = 1) -> Tensor:
            r = grid(range(first, first + count), rows, columns, c.rope_axes, c.rope_theta)
            return pool(r, kernel).flatten(1, 3)

        last = 1 + n4 + n2
        self.register_buffer(
            "before", torch.cat([piece(1, n4, 4), piece(1 + n4, n2, 2)], 1), persistent=False
        )
        self.register_buffer(
            "anchor", piece(0, 1, 2 if c.packing.anchor_kernel == "2x" else 1), persistent=False
        )
        self.register_buffer("after", piece(last, n1 + c.segment), persistent=False)

    def forward(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Segment numbers (B,) → cos, sin, each (B, 1, N, head_dim / 2)."""
        distance = (index * self.segment).clamp(max=self.cap)
        phase = angles(-distance, self.time_dim, self.theta)  # (B, time_dim / 2)
        half, tokens = phase.shape[-1], self.anchor.shape[1]
        cos, sin = (f(phase)[:, None].expand(-1, tokens, -1) for f in (torch.cos, torch.sin))
        b = index.shape[0]
        space_cos, space_sin = self.anchor[:, None, :, half:].expand(-1, b, -1, -1)
        out = []
        for k, (time, space) in enumerate(((cos, space_cos), (sin, space_sin))):
            anchor = torch.cat([time, space], -1)
            before, after = (r[k][None].expand(b, -1, -1) for r in (self.before, self.after))
            out.append(torch.cat([before, anchor, after], 1)[:, None])
        return out[0], out[1]


class Packing(nn.Module):
    """Embeds anchor and history; the noisy segment has its own embedder."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.history = c.packing.history
        self.anchor_2x = c.packing.anchor_kernel == "2x"
        self.clean_x_embedder = CleanEmbed(c.channels, c.dim)

    def forward(self, history: Tensor, anchor: Tensor) -> Tensor:
        """(B, 19, C, h, w), (B, 1, C, h, w) → (B, N, D): 4x, 2x, anchor, 1x."""
        n4, n2, _ = self.history
        embed = self.clean_x_embedder
        return torch.cat(
            [
                embed.proj_4x(history[:, :n4]),
                embed.proj_2x(history[:, n4 : n4 + n2]),
                embed.proj_2x(anchor) if self.anchor_2x else embed.proj(anchor),
                embed.proj(history[:, n4 + n2 :]),
            ],
            1,
        )
