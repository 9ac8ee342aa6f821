"""TAEW2.1: Wan 2.1's latents → frames, fast. The architecture is TAEHV's, with other weights.

Each segment is decoded like the start of a video, without memory. The first three frames of its first latent
are untrained and are dropped, as in the public code, so W latents give 4 W - 3 frames. No state is carried
over. Nobody has published how this looks with Helios.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from engine.companions.helios.files import CATALOGUE, TAEW
from engine.companions.taehv import START, TinyDecoder


class SegmentDecoder(nn.Module):
    """Decodes one segment at a time, without state."""

    def __init__(self, decoder: TinyDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str, dtype: torch.dtype) -> SegmentDecoder:
        """Raises ModelFilesError for a file that is missing, unreadable, or another model's."""
        return cls(TinyDecoder.load(folder, device=device, dtype=dtype, catalogue=CATALOGUE, part=TAEW))

    def forward(self, latents: Tensor) -> Tensor:
        """The latents of a segment (B, W, C, h, w) → frames (B, 4 W - 3, 3, H, W) uint8."""
        b, _, _, h, w = latents.shape
        empty = torch.zeros(b, self.decoder.state_size(h, w), device=latents.device)
        frames: Tensor = self.decoder(latents, empty)[0]
        return frames[:, START:]
