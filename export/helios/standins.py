"""Simple stand-ins for Helios' companions, for a folder that holds only a transformer.

They give it text, pictures and frames to work on, the same for every backend, and are models of nothing.

Legend: B batch, L ids, E width of a token, W latents of a segment, T = 4 W - 3 pixel frames.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.helios.config import CELL, HeliosConfig
from engine.model.helios.roles import Companions
from engine.types import FloatArray, IntArray

WORDS = 256


class ByteText(nn.Module):
    """A random vector for each byte of the prompt."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.length = self.tokens = tokens
        self.width = width
        self.words = nn.Embedding(WORDS, width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) twice → (B, L, E)."""
        out: Tensor = self.words(ids % WORDS) * mask[..., None]
        return out

    def tokenize(self, text: str) -> tuple[IntArray, FloatArray]:
        ids, mask = np.zeros(self.length, np.int64), np.zeros(self.length, np.float32)
        said = list(text.encode())[: self.length]
        ids[: len(said)], mask[: len(said)] = said, 1
        return ids, mask


class ColourFrames(nn.Module):
    """Latents are colours at an eighth of the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, T, 3, H, W) uint8 → (B, W, C, h, w): the first frame of each latent."""
        small = F.avg_pool2d(pixels[:, ::4].flatten(0, 1).float() / 127.5 - 1, CELL)
        latents: Tensor = small.repeat(1, -(-self.channels // 3), 1, 1)[:, : self.channels]
        found: Tensor = latents.unflatten(0, (pixels.shape[0], -1))
        return found

    def start(self, pixels: Tensor, segment: int) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8 → anchor and nearest, (B, 1, C, h, w) each."""
        anchor = self.encode(pixels[:, None])
        return anchor, anchor

    def forward(self, latents: Tensor) -> Tensor:
        """(B, W, C, h, w) → (B, T, 3, H, W) uint8."""
        colours = F.interpolate(latents[:, :, :3].flatten(0, 1), scale_factor=float(CELL))
        pixels = ((colours.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        frames: Tensor = pixels.unflatten(0, latents.shape[:2]).repeat_interleave(4, 1)
        return frames[:, 3:]


def stand_ins(c: HeliosConfig, seed: int = 0) -> Companions:
    """The same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        frames = ColourFrames(c.channels)
        return Companions(ByteText(c.text_tokens, c.text_dim), frames, frames)
