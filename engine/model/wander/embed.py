"""Prompts and reference images of the built-in model: attribute slots, and pieces of the anchor's latent.

Legend: B batch, D width, C channels, h w latent size, N text tokens (one per attribute), I image tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import CameraConfig, ModelConfig
from engine.model.packing import PatchEmbed


class TextSlots(nn.Module):
    """Probabilities per attribute → one token per attribute. Concatenated, the tokens are the pooled
    prompt."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.sizes = list(c.slots)
        self.tables = nn.ParameterList([nn.Parameter(0.5 * torch.randn(n, c.dim)) for n in c.slots])

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """(B, number of all classes) → text (B, N, D), pooled (B, N · D)."""
        parts = probabilities.split(self.sizes, -1)
        text = torch.stack([p @ table for p, table in zip(parts, self.tables, strict=True)], 1)
        return text, text.flatten(1)


class ImageTokens(nn.Module):
    """The anchor's latent → I image tokens for the condition stream and ψ₀. Without an anchor they are
    learned constants."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        rows, columns = c.memory.image_tokens
        self.embed = PatchEmbed(c.channels, c.dim, (1, c.latent_height // rows, c.latent_width // columns))
        self.position = nn.Parameter(0.1 * torch.randn(1, rows * columns, c.dim))
        self.absent = nn.Parameter(0.1 * torch.randn(1, rows * columns, c.dim))

    def forward(self, anchor: Tensor, context: Tensor) -> Tensor:
        """anchor (B, 1, C, h, w), context (B,) 1 where there is an anchor → (B, I, D)."""
        x = F.layer_norm(self.embed(anchor) + self.position, (self.position.shape[-1],))
        return torch.where(context[:, None, None] > 0.5, x, self.absent)


class SceneryCode(nn.Module):
    """What stands behind each noisy token: codes of its column in every layer that moves and of its place in
    the picture, for the layer that stands still. The prompt gates their sum, since it names the place and the
    light. The world has one scenery (engine.world.drawing.noise), so codes can stand for it."""

    def __init__(self, c: ModelConfig, camera: CameraConfig) -> None:
        super().__init__()
        self.columns = nn.Embedding(camera.scenery, c.dim)
        nn.init.normal_(self.columns.weight, std=0.1)
        self.screen = nn.Parameter(0.1 * torch.randn(c.latent_height // 2, c.latent_width // 2, c.dim))
        self.gate = nn.Linear(c.pooled_dim, c.dim)

    def forward(self, columns: Tensor, pooled: Tensor) -> Tensor:
        """columns (B, W, L, w/2), as `hints.scenery` counts them, pooled (B, P) → (B, W, h/2, w/2, D)."""
        code = self.columns(columns).sum(2)[:, :, None] + self.screen
        gated: Tensor = code * (1 + self.gate(pooled))[:, None, None, None]
        return gated
