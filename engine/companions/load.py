"""All companions of a full-size model's folder."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.companions.image import ImageCompanion
from engine.companions.taehv import TinyDecoder
from engine.companions.text import TextCompanion
from engine.companions.vae import Vae
from engine.model.full import Companions


def load_companions(folder: Path, *, device: torch.device, dtype: torch.dtype) -> Companions:
    """`folder` has them (engine.companions.files.require). Raises ModelFilesError for what can't be read."""
    return Companions(
        text=TextCompanion.load(folder, device=device, dtype=dtype),
        image=ImageCompanion.load(folder, device=device, dtype=dtype),
        encoder=Vae.load(folder, device=device, dtype=dtype),
        decoder=TinyDecoder.load(folder, device=device, dtype=dtype),
    )
