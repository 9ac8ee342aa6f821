"""TAEW2.1: Wan 2.1's latents → frames, fast. The network is TAEHV's; only the weights are others.

Each chunk begins as a video does, without memory: three frames of its first latent, which nobody trained, are
dropped as in the public code, so W latents give 4 W - 3 frames. Nothing is carried over. How it looks on
Helios' chunks nobody has published.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from engine.companions.helios.files import CATALOGUE, TAEW
from engine.companions.taehv import START, TinyDecoder


class ChunkDecoder(nn.Module):
    def __init__(self, decoder: TinyDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str, dtype: torch.dtype) -> ChunkDecoder:
        """Raises ModelFilesError for a file that is missing, unreadable, or another model's."""
        return cls(TinyDecoder.load(folder, device=device, dtype=dtype, catalogue=CATALOGUE, part=TAEW))

    def forward(self, latents: Tensor) -> Tensor:
        """(B, W, C, h, w) of one chunk → frames (B, 4 W - 3, 3, H, W) uint8."""
        b, _, _, h, w = latents.shape
        nothing = torch.zeros(b, self.decoder.state_size(h, w), device=latents.device)
        frames: Tensor = self.decoder(latents, nothing)[0]
        return frames[:, START:]
