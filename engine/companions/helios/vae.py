"""Wan 2.1's autoencoder, through diffusers: pictures → latents, a segment's latents → its frames.

Its latents are Helios' own, normalised per channel. Every segment is encoded and decoded on its own, as in
training: its first latent stands for a single frame, and no state is carried over.

Legend: B batch, W latents of a segment, T = 4 W - 3 pixel frames, C channels, H W pixels, h = H/8, w = W/8.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from engine.companions.helios.files import CATALOGUE
from engine.companions.libraries import library, load_pretrained
from engine.model.pixels import to_bytes, to_unit


class Start(NamedTuple):
    """The latents that a scene starts from, each (B, 1, C, h, w)."""

    anchor: Tensor  # of the picture as a single frame
    nearest: Tensor  # the last latent of a segment that shows the picture throughout


class WanVae(nn.Module):
    """Frozen. Rows of a batch run one by one, so memory does not grow with the batch."""

    mean: Tensor  # (C, 1, 1)
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.enable_slicing()
        self.model = model
        self.channels: int = model.config.z_dim
        for name in ("mean", "std"):
            values = torch.tensor(getattr(model.config, f"latents_{name}"))
            self.register_buffer(name, values[:, None, None], persistent=False)

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str, dtype: torch.dtype) -> WanVae:
        """Load from `folder` (see files.py). The public code uses fp32; vllm-omni's recipe for Helios reports
        that bf16 halves the time, at 59 dB.

        Raises ModelFilesError for files that are missing or don't fit, Unavailable without diffusers."""
        CATALOGUE.require(folder, "vae")
        model = library("diffusers").AutoencoderKLWan
        found = load_pretrained(model, folder, "vae", device=device, dtype=dtype, catalogue=CATALOGUE)
        return cls(found).to(device)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """(B, T, 3, H, W) uint8 → (B, W, C, h, w) fp32, the mode of the encoder's distribution.

        The public pipelines draw a sample; the mode is our choice, so that a session can be replayed."""
        x = to_unit(pixels).transpose(1, 2).to(self.model.dtype)
        mode: Tensor = self.model.encode(x).latent_dist.mode()
        return (mode.transpose(1, 2).float() - self.mean) / self.std

    def start(self, pixels: Tensor, segment: int) -> Start:
        """A picture (B, 3, H, W) uint8 → the latents that a scene starts from. A segment has `segment`
        latents."""
        still = pixels[:, None].expand(-1, 4 * segment - 3, -1, -1, -1)
        return Start(self.encode(pixels[:, None]), self.encode(still)[:, -1:])

    @torch.no_grad()
    def forward(self, latents: Tensor) -> Tensor:
        """The latents of a segment (B, W, C, h, w) → frames (B, T, 3, H, W) uint8."""
        z = (latents * self.std + self.mean).transpose(1, 2).to(self.model.dtype)
        frames: Tensor = self.model.decode(z).sample
        return to_bytes(frames.transpose(1, 2).float())
