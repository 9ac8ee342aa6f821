"""Few-step Euler sampling of one segment, in torch: what training and evaluation use. Serving has its own on
arrays (engine.runtime.generator) with the same arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.dit import MemoryPackDiT

Inputs = dict[str, Tensor]


@torch.no_grad()
def sample_segment(model: MemoryPackDiT, noise: Tensor, steps: int, inputs: Inputs) -> Tensor:
    """Noise (B, W, C, h, w) → clean segment. `inputs` are those of `denoise` besides x, t and d."""
    x, b = noise, noise.shape[0]
    for k in range(steps):
        t = torch.full((b,), k / steps, device=x.device)
        x = x + model(x, t, torch.full_like(t, 1 / steps), **inputs) / steps
    return x
