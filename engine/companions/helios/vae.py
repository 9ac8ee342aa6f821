"""Wan 2.1's autoencoder, through diffusers: pictures → latents, a chunk's latents → its frames.

Its latents are Helios' own, normalised channel by channel. Every chunk is coded alone, as in training: its
first latent is a single frame, nothing is carried over, there is no state. It knows no sessions.

Legend: B batch, W latents of a chunk, T = 4 W - 3 pixel frames, C channels, H W pixels, h = H/8, w = W/8.
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
    """What a scene goes on from, each (B, 1, C, h, w)."""

    anchor: Tensor  # the picture as a single frame
    nearest: Tensor  # as the end of a chunk in which it stands still


class WanVae(nn.Module):
    """Frozen. Batches are worked off one by one, so that memory does not grow with them."""

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
        """From `folder`, as files.py describes it. The public code runs it in fp32; others report that bf16
        halves its time at 59 dB (vllm-omni's recipe for Helios).

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
        """A picture (B, 3, H, W) uint8 → what a scene goes on from, in chunks of `segment` latents."""
        still = pixels[:, None].expand(-1, 4 * segment - 3, -1, -1, -1)
        return Start(self.encode(pixels[:, None]), self.encode(still)[:, -1:])

    @torch.no_grad()
    def forward(self, latents: Tensor) -> Tensor:
        """(B, W, C, h, w) of one chunk → frames (B, T, 3, H, W) uint8."""
        z = (latents * self.std + self.mean).transpose(1, 2).to(self.model.dtype)
        frames: Tensor = self.model.decode(z).sample
        return to_bytes(frames.transpose(1, 2).float())
