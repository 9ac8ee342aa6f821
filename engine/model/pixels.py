"""Pixels as bytes, and as the numbers that autoencoders work on. Any shape."""

from __future__ import annotations

import torch
from torch import Tensor


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 pixels → float in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_bytes(frames: Tensor) -> Tensor:
    """Float in [-1, 1] → uint8 pixels, clamped and rounded."""
    return ((frames.clamp(-1, 1) + 1) * 127.5 + 0.5).to(torch.uint8)
