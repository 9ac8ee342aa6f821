"""Helios in PyTorch: a converted checkpoint, on a GPU where there is one. It knows no sessions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from engine.backends.weights import load_weights
from engine.model.helios.config import HeliosConfig
from engine.model.helios.embed import Positions
from engine.model.helios.transformer import HeliosTransformer, is_exact


def load_transformer(
    folder: Path, config: HeliosConfig, device: torch.device, dtype: torch.dtype
) -> HeliosTransformer:
    """In `dtype`, except for what must be exact. Raises ModelFilesError for tensors that don't fit."""
    with torch.device("meta"):
        model = HeliosTransformer(config)

    def kind(name: str, tensor: Tensor) -> torch.dtype:
        return torch.float32 if is_exact(name) else dtype

    load_weights(model, folder, device, kind)
    with torch.device(device):
        model.positions = Positions(config)  # constants, not weights
    return model.eval()
