"""Simple stand-ins for the companions of a folder that holds only a transformer (`--layers`, or nothing
downloaded yet).

They produce inputs for the transformer that are the same for every backend, and have no other meaning.
Comparisons then cover the transformer's own roles.

Legend: B batch, L ids, N text tokens, I image tokens, S size of the decoder's state.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.companions.sizes import TEMPLATE
from engine.model.config import ModelConfig
from engine.model.framepack.roles import Companions
from engine.model.signature import ModelSpec
from engine.types import FloatArray, IntArray

WORDS = 256


class StandInText(nn.Module):
    """Text encoder: a random vector for each id."""

    def __init__(self, length: int, tokens: int, width: int, pooled: int) -> None:
        super().__init__()
        self.length, self.tokens, self.width, self.pooled_width = length, tokens, width, pooled
        self.words = nn.Embedding(WORDS, width)
        self.whole = nn.Embedding(WORDS, pooled)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids and mask (B, L) → text (B, N, E), its mask (B, N), pooled (B, P)."""
        ids, known = (x[:, TEMPLATE : TEMPLATE + self.tokens] for x in (ids, mask))
        text = self.words(ids % WORDS) * known[..., None]
        share = known / known.sum(1, keepdim=True).clamp(min=1)
        return text, known, (self.whole(ids % WORDS) * share[..., None]).sum(1)

    def tokenize(self, text: str) -> tuple[IntArray, FloatArray]:
        """The bytes of a prompt as ids."""
        ids, mask = np.zeros(self.length, np.int64), np.zeros(self.length, np.float32)
        characters = list(text.encode())[: self.tokens]
        ids[TEMPLATE : TEMPLATE + len(characters)] = characters
        mask[: TEMPLATE + len(characters)] = 1
        return ids, mask


class StandInImage(nn.Module):
    """Image encoder: the mean colour of each square of the picture."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens, self.width, self.side = tokens, width, math.isqrt(tokens)
        self.colours = nn.Linear(3, width)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → (B, I, E)."""
        small = F.adaptive_avg_pool2d(pixels.float() / 255, self.side)
        out: Tensor = self.colours(small.flatten(2).transpose(1, 2))
        return out


class StandInFrames(nn.Module):
    """Autoencoder: latents are colours at an eighth of the size; the state is the last latent."""

    def __init__(self, channels: int, state: int) -> None:
        super().__init__()
        self.channels, self.state = channels, state

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → (B, 1, C, h, w)."""
        small = F.avg_pool2d(pixels.float() / 127.5 - 1, 8)
        return small.repeat(1, -(-self.channels // 3), 1, 1)[:, None, : self.channels]

    def state_size(self, height: int, width: int) -> int:
        return self.state

    def begin(self, start: Tensor) -> Tensor:
        """(B, 1, C, h, w) → (B, S)."""
        return F.pad(start.flatten(1), (0, self.state - start[0].numel()))

    def forward(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, W, C, h, w), (B, S) → frames (B, 4 W, 3, H, W) uint8, state (B, S)."""
        colours = F.interpolate(latents[:, :, :3].flatten(0, 1), scale_factor=8.0)
        pixels = ((colours.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        frames = pixels.unflatten(0, latents.shape[:2]).repeat_interleave(4, 1)
        return frames, self.begin(latents[:, -1:])


def stand_ins(spec: ModelSpec, config: ModelConfig, seed: int = 0) -> Companions:
    """Stand-ins for all companions, determined by the seed."""
    assert config.hunyuan is not None  # export.framepack.export exports no other models
    tokens = spec.image_tokens
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        frames = StandInFrames(spec.latent_channels, spec.decoder_state[0])
        return Companions(
            StandInText(
                spec.text_length, spec.text_tokens, config.hunyuan.text_dim, config.hunyuan.pooled_dim
            ),
            StandInImage(tokens, config.hunyuan.image_dim),
            frames,
            frames,
        )
