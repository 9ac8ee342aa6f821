"""All companions of a full-size model's folder."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.companions.image import ImageCompanion
from engine.companions.taehv import TinyDecoder
from engine.companions.text import LlamaClipText
from engine.companions.vae import Vae
from engine.companions.vae_stream import VaeDecoder
from engine.model.framepack.roles import Companions


def load_companions(
    folder: Path, *, decoder: str, segment: int, device: torch.device, dtype: torch.dtype
) -> Companions:
    """`decoder` is "taehv" or "vae"; `segment` is in latent frames. Raises ModelFilesError for missing or
    unreadable files."""
    vae = Vae.load(folder, device=device, dtype=dtype)
    return Companions(
        text=LlamaClipText.load(folder, device=device, dtype=dtype),
        image=ImageCompanion.load(folder, device=device, dtype=dtype),
        encoder=vae,
        decoder=(
            VaeDecoder(vae, segment=segment, late=False)
            if decoder == "vae"
            else TinyDecoder.load(folder, device=device, dtype=dtype)
        ),
    )
