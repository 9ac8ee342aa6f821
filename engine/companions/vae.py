"""HunyuanVideo's autoencoder, through diffusers: picture → latent, latents → frames, slow and exact.

`Vae` uses the transformer's latents, scaled by 0.476986. It decodes whole stacks: L latents give 4 L - 3
frames, of which the first latent gives only one. vae_stream.py makes a stream of it.

Legend: B batch, L latent frames, T = 4 L - 3 pixel frames, C latent channels, H W pixels, h = H/8, w = W/8.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.companions.files import require
from engine.companions.libraries import library, load_pretrained
from engine.model.pixels import to_unit


class Vae(nn.Module):
    """Frozen. Rows of a batch run one by one, so memory does not grow with the batch."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.enable_slicing()
        self.model = model
        self.channels: int = model.config.latent_channels
        self.scale: float = model.config.scaling_factor

    @classmethod
    def load(
        cls, folder: Path, *, device: torch.device | str, dtype: torch.dtype, tiling: bool = False
    ) -> Vae:
        """Load from `folder` (see files.py). FramePack uses fp16.

        `tiling` cuts pictures above 256 pixels into overlapping tiles, which takes far less memory and
        changes the picture slightly; FramePack turns it on below 60 GB of GPU memory. Raises ModelFilesError
        for files that are missing or don't fit, Unavailable without diffusers."""
        require(folder, "vae")
        model = library("diffusers").AutoencoderKLHunyuanVideo
        vae = cls(load_pretrained(model, folder, "vae", device=device, dtype=dtype))
        if tiling:
            vae.model.enable_tiling()
        return vae

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → (B, 1, C, h, w) fp32, the mode of the encoder's distribution.

        FramePack draws a sample instead. We take the mode, so that a session can be replayed from its seed
        and its controls on any device."""
        x = to_unit(pixels)[:, :, None].to(self.model.dtype)
        mode: Tensor = self.model.encode(x).latent_dist.mode()
        return mode.transpose(1, 2).float() * self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, L, C, h, w) → (B, T, 3, H, W) fp32, about [-1, 1]."""
        z = (latents / self.scale).transpose(1, 2).to(self.model.dtype)
        frames: Tensor = self.model.decode(z).sample
        return frames.transpose(1, 2).float()
