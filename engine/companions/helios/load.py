"""All companions of a Helios folder."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.companions.helios.taew import SegmentDecoder
from engine.companions.helios.text import TextCompanion
from engine.companions.helios.vae import WanVae
from engine.model.helios.roles import Companions


def load_companions(folder: Path, *, decoder: str, device: torch.device, dtype: torch.dtype) -> Companions:
    """`decoder` is "taew" or "vae". The text encoder and the fast decoder use `dtype`; the autoencoder uses
    fp32, as in the public code. Raises ModelFilesError for missing or unreadable files."""
    vae = WanVae.load(folder, device=device, dtype=torch.float32)
    return Companions(
        text=TextCompanion.load(folder, device=device, dtype=dtype),
        encoder=vae,
        decoder=vae if decoder == "vae" else SegmentDecoder.load(folder, device=device, dtype=dtype),
    )
