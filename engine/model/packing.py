"""FramePack packing: recent latents in full detail, older ones through larger kernels (arXiv 2504.12626).

Time indices with W noisy latents. F1: anchor 0 | 16 at 4x: 1..16 | 2 at 2x: 17, 18 | 1 at 1x: 19 | noisy:
20..19 + W. F0 makes the last segment first; p segments before this one are still to be made: anchor 0 | p W
unused indices | noisy | 1 at 1x | 2 at 2x | 16 at 4x. Both order their tokens 4x, 2x, anchor, 1x, noisy;
within a piece by time, then height, then width.

Legend: B batch, T frames, C channels, h w latent size, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import ModelConfig, PackingConfig
from engine.model.rope import Rope, angles, grid, moved, pool

KERNELS = {"1x": (1, 2, 2), "2x": (2, 4, 4), "4x": (4, 8, 8)}
POOL = {"1x": 1, "2x": 2, "4x": 4}  # the same kernels, in tokens of the 1x grid


class Piece(NamedTuple):
    kernel: str
    first: int  # time index of its first frame; the anchor's is 0
    start: int  # offset in `history`, which is in order of time
    frames: int


def pieces(c: PackingConfig, segment: int) -> tuple[dict[str, Piece], int]:
    """The history's pieces by kernel, and the time index of the first noisy latent (in F0, with p = 0)."""
    counts = dict(zip(("4x", "2x", "1x"), c.history, strict=True))
    out, start = {}, 0
    order = ("4x", "2x", "1x") if c.order == "f1" else ("1x", "2x", "4x")
    first = 1 if c.order == "f1" else 1 + segment
    for kernel in order:
        out[kernel] = Piece(kernel, first + start, start, counts[kernel])
        start += counts[kernel]
    return out, (1 + start if c.order == "f1" else 1)


class PatchEmbed(nn.Module):
    """Non-overlapping 3-D patches → tokens. The weight has the shape of a Conv3d, as in public checkpoints;
    it is applied as one matrix product, which is equivalent. Inputs that the kernel does not divide are
    replicate-padded at the end of each axis."""

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


class NoisyEmbed(nn.Module):
    """Patches of the noisy latents, `x_embedder` in the checkpoints."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = PatchEmbed(channels, dim, KERNELS["1x"])

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.proj(x)
        return tokens


class CleanEmbed(nn.Module):
    """Patches of the clean context, `clean_x_embedder` in the checkpoints. Only the kernels that the packing
    uses are made."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.anchor = c.packing.anchor_kernel
        found, _ = pieces(c.packing, c.segment)
        self.pieces = [p for p in (found["4x"], found["2x"], found["1x"]) if p.frames]
        used = {p.kernel for p in self.pieces} | {self.anchor} - {"none"}
        if "1x" in used:
            self.proj = PatchEmbed(c.channels, c.dim, KERNELS["1x"])
        if "2x" in used:
            self.proj_2x = PatchEmbed(c.channels, c.dim, KERNELS["2x"])
        if "4x" in used:
            self.proj_4x = PatchEmbed(c.channels, c.dim, KERNELS["4x"])

    def forward(self, history: Tensor, anchor: Tensor) -> Tensor:
        """History (B, T, C, h, w) in order of time, anchor (B, 1, C, h, w) → 4x, 2x, anchor, 1x (B, N, D)."""
        tokens = {
            p.kernel: self._embed(p.kernel, history[:, p.start : p.start + p.frames]) for p in self.pieces
        }
        parts = [tokens[k] for k in ("4x", "2x") if k in tokens]
        if self.anchor != "none":
            parts.append(self._embed(self.anchor, anchor))
        return torch.cat([*parts, *([tokens["1x"]] if "1x" in tokens else [])], 1)

    def _embed(self, kernel: str, x: Tensor) -> Tensor:
        name = "proj" if kernel == "1x" else f"proj_{kernel}"
        tokens: Tensor = self.get_submodule(name)(x)
        return tokens


class Positions(nn.Module):
    """The rotations of every visual token of a segment. They are constants, except for the distance to the
    anchor.

    The distance is the number of latents since the start of the video (F1), or of unused indices before the
    segment (F0); without `rope_consistency` it stays 0. With `moves` = "video" it is added to all indices but
    the anchor's, as in the paper and in F0; with "anchor" it is subtracted from the anchor's.
    engine.model.rope explains the difference."""

    before: Tensor
    anchor: Tensor
    after: Tensor

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        p = c.packing
        self.time_dim, self.theta, self.cap = c.rope_axes[0], c.rope_theta, p.anchor_cap
        self.video_moves = p.moves == "video" or p.order == "f0"
        has_anchor = p.anchor_kernel != "none"
        self.step = c.segment if has_anchor and (p.rope_consistency or p.order == "f0") else 0
        rows, columns = c.latent_height // 2, c.latent_width // 2
        found, noisy = pieces(p, c.segment)

        def turn(first: int, count: int, kernel: str) -> Tensor:
            r = grid(range(first, first + count), rows, columns, c.rope_axes, c.rope_theta)
            return pool(r, POOL[kernel]).flatten(1, 3)

        def joined(parts: list[Tensor]) -> Tensor:
            return torch.cat([torch.zeros(2, 0, c.head_dim // 2), *parts], 1)

        far = [turn(found[k].first, found[k].frames, k) for k in ("4x", "2x") if found[k].frames]
        near = [turn(found["1x"].first, found["1x"].frames, "1x")] if found["1x"].frames else []
        self.register_buffer("before", joined(far), persistent=False)
        anchor = [turn(0, 1, p.anchor_kernel)] if has_anchor else []
        self.register_buffer("anchor", joined(anchor), persistent=False)
        self.register_buffer("after", joined([*near, turn(noisy, c.segment, "1x")]), persistent=False)

    def forward(self, index: Tensor) -> Rope:
        """Segment numbers (B,) → the rotation of every visual token, (B, 1, N, head_dim / 2) each."""
        distance = (index * self.step).clamp(max=self.cap)
        b = index.shape[0]
        still = [r[:, None].expand(-1, b, -1, -1) for r in (self.before, self.anchor, self.after)]
        if self.video_moves:
            phase = angles(distance, self.time_dim, self.theta)  # (B, time_dim / 2)
            parts = [moved(still[0], phase), still[1], moved(still[2], phase)]
        else:
            parts = [still[0], moved(still[1], angles(-distance, self.time_dim, self.theta)), still[2]]
        cos, sin = torch.cat(parts, 2)[:, :, None]
        return Rope(cos, sin)
