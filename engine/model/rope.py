"""Rotary position embedding over (time, height, width), and its pooled form for packed history.

It uses interleaved pairs and theta 256, as in HunyuanVideo. FramePack averages cos and sin over each kernel
and does not renormalise. The paper's RoPE consistency keeps the start image at index 0 of the whole video
while the indices of everything else grow. Attention among video tokens depends only on differences of
indices, so the anchor's index may shrink instead. Condition tokens are not rotated: their index is always 0,
so for attention between them and the video the two choices differ.

Legend: B batch, T H W token grid, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torch.onnx.ops
from torch import Tensor


class Rope(NamedTuple):
    """The rotation of every token. Each is (B or 1, 1, N, head_dim / 2)."""

    cos: Tensor
    sin: Tensor

    def last(self, count: int) -> Rope:
        """Of the last `count` tokens."""
        return Rope(self.cos[:, :, -count:], self.sin[:, :, -count:])


def angles(index: Tensor, dim: int, theta: float) -> Tensor:
    """Positions (...) → angles (..., dim / 2), fp32."""
    frequency = 1 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32, device=index.device) / dim)
    return index.float()[..., None] * frequency


def grid(times: Sequence[int], height: int, width: int, axes: tuple[int, int, int], theta: float) -> Tensor:
    """Complex rotations as (2, T, H, W, head_dim / 2): cos, sin of every position of a token grid."""
    sides = (torch.tensor(times), torch.arange(height), torch.arange(width))
    t, y, x = torch.meshgrid(*(s.float() for s in sides), indexing="ij")
    phase = torch.cat([angles(a, d, theta) for a, d in zip((t, y, x), axes, strict=True)], -1)
    return torch.stack([phase.cos(), phase.sin()])


def pool(rotations: Tensor, kernel: int) -> Tensor:
    """Average cos and sin over cubes of side `kernel`. Axes that it does not divide are padded at the end by
    replication."""
    r = rotations.permute(0, 4, 1, 2, 3)  # (2, D/2, T, H, W)
    pad = [n for size in reversed(r.shape[2:]) for n in (0, -size % kernel)]
    r = F.avg_pool3d(F.pad(r, pad, mode="replicate"), kernel)
    return r.permute(0, 2, 3, 4, 1)


def moved(rotations: Tensor, phase: Tensor) -> Tensor:
    """Rotations (2, B, N, head_dim / 2) moved in time by angles (B, time_dim / 2). This is exact for pooled
    rotations too, since a common factor can be taken out of an average."""
    half = phase.shape[-1]
    cos, sin = phase.cos()[:, None], phase.sin()[:, None]
    c, s = rotations[..., :half]
    time = torch.stack([c * cos - s * sin, s * cos + c * sin])
    return torch.cat([time, rotations[..., half:]], -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, heads, N, head_dim) rotated by (B or 1, 1, N, head_dim / 2) in interleaved pairs, in fp32."""
    if torch.onnx.is_in_onnx_export():  # one node instead of a dozen, with the same arithmetic
        tables = (wave[:, 0].expand(x.shape[0], -1, -1) for wave in (cos, sin))
        out: Tensor = torch.onnx.ops.rotary_embedding(x.float(), *tables, interleaved=True)
        return out.to(x.dtype)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)
