"""HunyuanVideo's MM-DiT blocks: double-stream (separate weights for video and text) and single-stream.

Module names are those of the public checkpoints. If `bias` (B, 1, 1, V + Y) is given, it is added to the
attention logits of the keys. Legend: B batch, V visual tokens, Y condition tokens, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.rope import Rope, rotate

MASKED = -1e4  # added to an attention logit that must not count


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without affine, then (1 + scale) x + shift. x (B, N, D), shift and scale (B, D)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


class ModulationOut(NamedTuple):
    """How one sub-layer (attention or MLP) is modulated. Each is (B, D)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def enter(self, x: Tensor) -> Tensor:
        """The sub-layer's input: tokens (B, N, D) normalised, scaled and shifted."""
        return modulate(x, self.shift, self.scale)

    def add(self, x: Tensor, out: Tensor) -> Tensor:
        """The residual: tokens plus the gated output of the sub-layer, both (B, N, D)."""
        return x + self.gate[:, None] * out


class Modulation(nn.Module):
    """SiLU, Linear → shift, scale and gate for each of a block's sub-layers."""

    def __init__(self, dim: int, sublayers: int) -> None:
        super().__init__()
        self.count = 3 * sublayers
        self.linear = nn.Linear(dim, self.count * dim)

    def forward(self, temb: Tensor) -> tuple[ModulationOut, ...]:
        vectors = self.linear(F.silu(temb)).chunk(self.count, -1)
        return tuple(ModulationOut(*vectors[i : i + 3]) for i in range(0, self.count, 3))

    def initialise(self) -> None:
        """Small shifts and scales, gates at one half: zero gates cost a third of a short training."""
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        self.linear.bias.data.view(self.count, -1)[2::3] = 0.5


class OutputNorm(nn.Module):
    """The norm before the last layer, scaled and shifted by the modulation's embedding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)  # scale, shift: the checkpoints' order

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """(B, N, D), (B, D) → (B, N, D)."""
        scale, shift = self.linear(F.silu(temb)).chunk(2, -1)
        return modulate(x, shift, scale)

    def initialise(self) -> None:
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)


class Up(nn.Module):
    """A Linear nested one level deeper, as in the public checkpoints."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, out)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.proj(x)
        return h


class FeedForward(nn.Module):
    """Linear, GELU (tanh), Linear."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Up(dim, ratio * dim), nn.Identity(), nn.Linear(ratio * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[2](F.gelu(self.net[0](x), approximate="tanh"))
        return out


class RmsNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), 1e-6)  # autocast makes them differ


class Attention(nn.Module):
    """Projections of joint attention, with RMSNorm on queries and keys. `added` gives a second stream weights
    of its own."""

    def __init__(
        self, dim: int, heads: int, *, added: bool = False, out: bool = True, qk_norm: bool = True
    ) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        norm = RmsNorm if qk_norm else nn.Identity
        self.norm_q, self.norm_k = norm(dim // heads), norm(dim // heads)
        if out:
            self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        if added:
            self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(dim, dim) for _ in range(3))
            self.norm_added_q, self.norm_added_k = RmsNorm(dim // heads), RmsNorm(dim // heads)
            self.to_add_out = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, heads, N, head_dim)."""
        heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (self.split(f(x)) for f in (self.to_q, self.to_k, self.to_v))
        return self.norm_q(q), self.norm_k(k), v

    def added_qkv(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (self.split(f(y)) for f in (self.add_q_proj, self.add_k_proj, self.add_v_proj))
        return self.norm_added_q(q), self.norm_added_k(k), v


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Full attention over (B, heads, N, head_dim) → (B, N, D). `bias` (B, 1, 1, N) is added to the logits
    of the keys."""
    mask = None if bias is None else bias.to(q.dtype)
    if mask is not None and mask.dtype == torch.float32 and torch.onnx.is_in_onnx_export():
        mask = mask.expand(-1, -1, q.shape[2], -1)  # ONNX Runtime's Attention needs a row per query
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


class DoubleBlock(nn.Module):
    """Video x and condition y have separate weights and share one attention. Only video is rotated."""

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm1_context = Modulation(dim, 2), Modulation(dim, 2)
        self.attn = Attention(dim, heads, added=True)
        self.ff, self.ff_context = FeedForward(dim, ratio), FeedForward(dim, ratio)

    def forward(
        self, x: Tensor, y: Tensor, *, temb: Tensor, rope: Rope, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, V, D), y (B, Y, D), temb (B, D) → x, y."""
        x_attn, x_mlp = self.norm1(temb)
        y_attn, y_mlp = self.norm1_context(temb)
        qx, kx, vx = self.attn.qkv(x_attn.enter(x))
        qy, ky, vy = self.attn.added_qkv(y_attn.enter(y))
        q = torch.cat([rotate(qx, *rope), qy], 2)
        k = torch.cat([rotate(kx, *rope), ky], 2)
        out = attend(q, k, torch.cat([vx, vy], 2), bias)
        out_x, out_y = out[:, : x.shape[1]], out[:, x.shape[1] :]
        x = x_attn.add(x, self.attn.to_out[0](out_x))
        y = y_attn.add(y, self.attn.to_add_out(out_y))
        x = x_mlp.add(x, self.ff(x_mlp.enter(x)))
        y = y_mlp.add(y, self.ff_context(y_mlp.enter(y)))
        return x, y


class SingleBlock(nn.Module):
    """Attention and MLP in parallel on [video; condition]. All tokens share the weights."""

    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm = Modulation(dim, 1)
        self.attn = Attention(dim, heads, out=False)
        self.proj_mlp = nn.Linear(dim, ratio * dim)
        self.proj_out = nn.Linear((1 + ratio) * dim, dim)

    def forward(
        self, x: Tensor, y: Tensor, *, temb: Tensor, rope: Rope, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, V, D), y (B, Y, D), temb (B, D) → x, y."""
        (modulation,) = self.norm(temb)
        both = torch.cat([x, y], 1)
        h = modulation.enter(both)
        q, k, v = self.attn.qkv(h)
        n = x.shape[1]
        q = torch.cat([rotate(q[:, :, :n], *rope), q[:, :, n:]], 2)
        k = torch.cat([rotate(k[:, :, :n], *rope), k[:, :, n:]], 2)
        out = torch.cat([attend(q, k, v, bias), F.gelu(self.proj_mlp(h), approximate="tanh")], -1)
        both = modulation.add(both, self.proj_out(out))
        return both[:, :n], both[:, n:]
