"""Few-step Euler sampling in torch: what training and evaluation use. Serving has its own on arrays
(engine.runtime.segment.generator) with the same arithmetic, for videos that have no end; FramePack-F0 needs
one.

Legend: B batch, W latent frames of a segment, S segments, K history frames, C h w latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model import flow
from engine.model.dit import Given, MemoryPackDiT


@torch.no_grad()
def sample_segment(model: MemoryPackDiT, noise: Tensor, steps: int, inputs: Given) -> Tensor:
    """Noise (B, W, C, h, w) → clean segment. `inputs` are those of `denoise` besides x, t and d."""
    x, b = noise, noise.shape[0]
    for k in range(steps):
        t = torch.full((b,), k / steps, device=x.device)
        d = torch.full_like(t, 1 / steps)
        x = flow.advance(x, model(x, t, d, inputs), d)
    return x


def blanks(segments: int) -> list[int]:
    """F0: how many segments are still to come before each one, in the order in which they are made, last
    first. Above four FramePack leaves at most three blank, as it was trained (its demo's schedule)."""
    if segments <= 4:
        return list(range(segments - 1, -1, -1))
    return [3, *[2] * (segments - 3), 1, 0]


def sample_backwards(model: MemoryPackDiT, noise: Tensor, steps: int, inputs: Given) -> Tensor:
    """FramePack-F0's inverted anti-drifting: a whole video, its last segment first, each with what follows it
    for history. noise (S, B, W, C, h, w) → (B, S W, C, h, w) in order of time; `inputs` as for a segment,
    their history and index aside. ψ stays as it is: nothing comes before the first segment that is made.

    Raises ValueError for a model whose packing is not F0's."""
    if model.config.packing.order != "f0":
        raise ValueError("inverted sampling wants packing.order = 'f0'")
    segments, b = noise.shape[:2]
    kept = sum(model.config.packing.history)
    after = noise.new_zeros(b, kept, *noise.shape[3:])  # in order of time, from the nearest on
    made: list[Tensor] = []
    for number, blank in enumerate(blanks(segments)):
        given = {**inputs, "history": after[:, :kept], "index": torch.full((b,), float(blank))}
        segment = sample_segment(model, noise[segments - 1 - number], steps, given)
        made.insert(0, segment)
        after = torch.cat([segment, after], 1)[:, :kept]
    return torch.cat(made, 1)
