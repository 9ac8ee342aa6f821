"""Causal video autoencoder: f8 in space, t4 in time, 16 channels, no convolution above H/4.

Four pixel frames become one latent frame. The decoder sees the current and the previous latent. Streaming
therefore needs one latent of state, and decoding in pieces equals decoding at once. The DiT is unknown here.

Legend: B batch, L latent frames, T = 4 L pixel frames, C latent channels, H W pixels, h = H/8, w = W/8.
The layout (f8, t4, 16 channels) is HunyuanVideo's, so all of FramePack's kernels and indices apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FRAMES = 4  # pixel frames of one latent frame
SHUFFLE = 4  # pixels folded into channels before the first convolution


@dataclass(frozen=True)
class AutoencoderConfig:
    MOST: ClassVar = 2**14  # of any size
    channels: int = 16
    fine: int = 64  # width of the encoder at a quarter of the resolution
    coarse: int = 128  # and at an eighth
    fine_blocks: int = 1
    coarse_blocks: int = 2
    decoder_fine: int = 64
    decoder_coarse: int = 128
    decoder_blocks: int = 2  # at each of the two resolutions


class Residual(nn.Module):
    """x + conv(silu(conv(silu(x)))). The second convolution starts with small weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]
        self.conv2.weight.data *= 0.1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.silu(self.conv1(F.silu(x))))
        return out


class Autoencoder(nn.Module):
    """`encode` and `decode` use normalised latents: zero mean and unit variance per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        pixels, fine, coarse, c = FRAMES * 3 * SHUFFLE**2, config.fine, config.coarse, config.channels
        self.encoder = nn.Sequential(
            nn.Conv2d(pixels, fine, 3, padding=1),
            *(Residual(fine) for _ in range(config.fine_blocks)),
            nn.Conv2d(fine, coarse, 3, 2, 1),
            *(Residual(coarse) for _ in range(config.coarse_blocks)),
            nn.Conv2d(coarse, c, 1),
        )
        fine, coarse, blocks = config.decoder_fine, config.decoder_coarse, config.decoder_blocks
        self.decoder = nn.Sequential(
            nn.Conv2d(2 * c, coarse, 3, padding=1),
            *(Residual(coarse) for _ in range(blocks)),
            nn.Conv2d(coarse, 4 * fine, 1),
            nn.PixelShuffle(2),
            *(Residual(fine) for _ in range(blocks)),
            nn.Conv2d(fine, pixels, 3, padding=1),
            nn.PixelShuffle(SHUFFLE),
        )
        last = self.encoder[-1]
        assert isinstance(last, nn.Conv2d)
        last.weight.data *= 4  # otherwise training noise hides the first latents
        self.register_buffer("mean", torch.zeros(c))
        self.register_buffer("std", torch.ones(c))

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, T, 3, H, W) in [-1, 1] → (B, L, C, h, w). T must be a multiple of 4."""
        b, t, _, height, width = pixels.shape
        x = F.pixel_unshuffle(pixels.reshape(b * t // FRAMES, FRAMES * 3, height, width), SHUFFLE)
        z = self.encoder(x).unflatten(0, (b, t // FRAMES))
        latents: Tensor = (z - self.mean[:, None, None]) / self.std[:, None, None]
        return latents

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] → (B, 1, C, h, w), the latent of four equal frames."""
        return self.encode(pixels[:, None].expand(-1, FRAMES, -1, -1, -1))

    def decode(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, C, h, w) and the latent before them (B, C, h, w), zeros at the start of a scene
        → (B, T, 3, H, W), about [-1, 1], and the next state."""
        b, length = latents.shape[:2]
        before = torch.cat([state[:, None], latents[:, :-1]], 1)
        std, mean = self.std[:, None, None], self.mean[:, None, None]
        pair = torch.cat([latents * std + mean, before * std + mean], 2)
        frames = self.decoder(pair.flatten(0, 1))  # (B L, 12, H, W)
        frames = frames.unflatten(0, (b, length)).unflatten(2, (FRAMES, 3)).flatten(1, 2)
        return frames, latents[:, -1]
