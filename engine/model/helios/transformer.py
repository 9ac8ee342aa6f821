"""Helios' transformer: FramePack-F1's packed history on Wan 2.1's blocks, with SemanticPack's ψ as an option.

Tokens are [4x | 2x | anchor, 1x | noisy]; the noisy ones are read out. The history always has full resolution
and timestep 0. The noisy latents have the size of their stage. The answer is v = start − end of the stage,
which is our velocity negated (engine.model.helios.pyramid computes the next x from it). Modules that the
public checkpoint has keep its names; EXTRA lists what is added to them.

Legend: B batch, W latent frames, C channels, h w latent size of a stage, T text tokens, E their width, M
memory tokens, D width, K history frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import InvalidInput
from engine.model.helios.block import EPSILON, CrossInputs, HeliosBlock, Layout
from engine.model.helios.config import STAGES, HeliosConfig
from engine.model.helios.embed import ConditionEmbed, Positions
from engine.model.helios.memory import SemanticPack
from engine.model.packing import KERNELS, PatchEmbed, pieces

EXTRA = ("semantic_pack",)
EXACT = ("time_embedder", "scale_shift_table", "norm2")  # always fp32, as in the public code


def is_exact(name: str) -> bool:
    """Whether the parameter of this name must stay in fp32."""
    return any(part in EXACT for part in name.split("."))


class OutputNorm(nn.Module):
    """LayerNorm without affine, then scale and shift, which depend only on the time."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, N, D), (B, D) → (B, N, D)."""
        shift, scale = (self.scale_shift_table.float() + time.float()[:, None]).chunk(2, 1)
        normed = F.layer_norm(x.float(), x.shape[-1:], eps=EPSILON)
        return (normed * (1 + scale) + shift).to(x.dtype)


class HeliosTransformer(nn.Module):
    def __init__(self, config: HeliosConfig) -> None:
        super().__init__()
        c = self.config = config
        self.patch_embedding = PatchEmbed(c.channels, c.dim, KERNELS["1x"])
        self.patch_short = PatchEmbed(c.channels, c.dim, KERNELS["1x"])
        self.patch_mid = PatchEmbed(c.channels, c.dim, KERNELS["2x"])
        self.patch_long = PatchEmbed(c.channels, c.dim, KERNELS["4x"])
        self.positions = Positions(c)
        self.condition_embedder = ConditionEmbed(c)
        self.blocks = nn.ModuleList([HeliosBlock(c.dim, c.heads, c.feed_forward) for _ in range(c.layers)])
        self.norm_out = OutputNorm(c.dim)
        self.proj_out = nn.Linear(c.dim, 4 * c.channels)
        self.semantic_pack = None if c.memory is None else SemanticPack(c, c.memory)

    def project(self, text: Tensor) -> Tensor:
        """text (B, T, E) → as the blocks read it (B, T, D). It depends on nothing else, so once per prompt is
        enough."""
        out: Tensor = self.condition_embedder.text_embedder(text)
        return out

    def forward(
        self,
        x: Tensor,
        *,
        timestep: Tensor,
        projected: Tensor,
        history: Tensor,
        anchor: Tensor,
        psi: Tensor | None = None,
    ) -> Tensor:
        """x (B, W, C, h, w) of any stage, integer timestep (B,), projected text (B, T, D), history (B, K, C,
        ·, ·) in order of time and anchor (B, 1, C, ·, ·) at full size, ψ (B, M, D) → v (B, W, C, h, w).
        Raises InvalidInput if x has the size of no stage."""
        self.check_size(x)
        past = self._history(history, anchor)
        noisy = self.patch_embedding(x)
        rows = (torch.arange(past.shape[1] + noisy.shape[1], device=x.device) >= past.shape[1]).long()
        layout = Layout(past.shape[1], rows)
        time, now = self.condition_embedder.time(timestep)
        _, still = self.condition_embedder.time(torch.zeros_like(timestep))
        cross = CrossInputs(projected, psi)
        rope = self.positions(x.shape[-2] // 2, x.shape[-1] // 2)
        z = torch.cat([past, noisy], 1)
        for number, block in enumerate(self.blocks):
            z = block(
                z,
                cross=cross,
                gate=None if self.semantic_pack is None else self.semantic_pack.gate[number],
                time=torch.stack([still, now], 1),
                layout=layout,
                rope=rope,
            )
        return self._latents(self.proj_out(self.norm_out(z[:, layout.history :], time)), x.shape)

    def check_size(self, x: Tensor) -> None:
        """Raises InvalidInput unless x has the size of a stage. An exported graph serves all of them, and its
        sizes are checked where it is called."""
        if torch.onnx.is_in_onnx_export():
            return
        frames, found = x.shape[1], tuple(x.shape[-2:])
        sizes = [self.config.stage_size(stage) for stage in range(STAGES)]
        if frames != self.config.segment or found not in sizes:
            raise InvalidInput(
                f"{frames} latents of {found}, must be {self.config.segment} of one of {sizes}", field="x"
            )

    def _history(self, history: Tensor, anchor: Tensor) -> Tensor:
        """4x, 2x, anchor, 1x (B, N, D)."""
        found, _ = pieces(self.config.packing, self.config.segment)
        far, middle, near = (
            history[:, p.start : p.start + p.frames] for p in (found["4x"], found["2x"], found["1x"])
        )
        short = self.patch_short(torch.cat([anchor, near], 1))
        return torch.cat([self.patch_long(far), self.patch_mid(middle), short], 1)

    def _latents(self, tokens: Tensor, shape: torch.Size) -> Tensor:
        """(B, N, 4 C), with the channel as the fastest axis → (B, W, C, h, w)."""
        b, w, c, height, width = shape
        cells = tokens.reshape(b, w, height // 2, width // 2, 2, 2, c)
        return cells.permute(0, 1, 6, 2, 4, 3, 5).reshape(b, w, c, height, width)
