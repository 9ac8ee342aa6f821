"""SemanticPack for Helios: ψ beside the text, behind a gate per block that starts at 0.

Initially the network computes exactly what the checkpoint does. Gradients reach the gates at once, and once
these have moved, everything else. Only noisy tokens attend to ψ. ψ₀ consists of the prompt as the blocks see
it and of the anchor's tokens, averaged over rectangles. The public code of Helios has none of this, and it
has not been trained.

Legend: B batch, W latent frames, C channels, h w latent size, T text tokens, I image tokens, M = T + I, D
width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import MemoryConfig
from engine.model.helios.config import HeliosConfig
from engine.model.memory import Memorize, Squeeze


class SemanticPack(nn.Module):
    def __init__(self, c: HeliosConfig, memory: MemoryConfig) -> None:
        super().__init__()
        shared = c.shared(memory)
        self.rows_columns = memory.image_tokens
        self.grid = (c.latent_height // 2, c.latent_width // 2)
        self.gate = nn.Parameter(torch.zeros(c.layers))
        self.memorize, self.squeeze = Memorize(shared), Squeeze(shared)

    def image_tokens(self, anchor: Tensor) -> Tensor:
        """The anchor's tokens (B, h/2 w/2, D), as `patch_short` makes them → (B, I, D)."""
        pictures = anchor.transpose(1, 2).unflatten(2, self.grid)
        return F.adaptive_avg_pool2d(pictures, self.rows_columns).flatten(2).transpose(1, 2)

    def start(self, text: Tensor, image: Tensor) -> Tensor:
        """Embedded prompt (B, T, D) and image tokens (B, I, D) → ψ₀ (B, M, D)."""
        return torch.cat([text, image], 1)
