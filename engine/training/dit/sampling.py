"""Few-step Euler sampling in torch, for training and evaluation. Serving has its own sampler on arrays, with
the same arithmetic (engine.backends.samplers).

Legend: B batch, W latent frames of a segment, C h w latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model import flow
from engine.model.conditions import Conditions
from engine.model.dit import MemoryPackDiT


@torch.no_grad()
def sample_segment(model: MemoryPackDiT, noise: Tensor, steps: int, given: Conditions) -> Tensor:
    """Noise (B, W, C, h, w) → the clean segment, in equal steps from t = 0 to t = 1."""
    x, b = noise, noise.shape[0]
    for k in range(steps):
        t = torch.full((b,), k / steps, device=x.device)
        d = torch.full_like(t, 1 / steps)
        x = flow.advance(x, model(x, t, d, given), d)
    return x
