"""How long ψ can remember: how much of the difference between two pasts remains after common segments.

ψ is a recurrence. Two copies are fed different segments, then the same ones. If their difference vanishes
within a few updates, then neither training nor a larger ψ can preserve what a return needs. This needs no
sampling, no history and no labels.

Legend: B pairs of videos, W latent frames of a segment.
"""

from __future__ import annotations

from typing import Final

import torch

from engine.model.wander.transformer import WanderDiT
from engine.training.data.latents import Pool

APART: Final = 4  # segments that differ
SAME: Final = (1, 4, 16)  # numbers of common updates; 4 are 2 s in the built-in world
SILENT: Final = -1000.0  # a key bias at which attention ignores ψ


@torch.no_grad()
def remaining(model: WanderDiT, pool: Pool) -> dict[int, list[float]] | None:
    """By number of common updates: the rms difference of ψ relative to that before the first common update,
    one per pair of neighbours in the pool. None for a model that ignores ψ."""
    bias = model.config.memory.key_bias
    if bias is not None and bias <= SILENT:
        return None
    w = model.config.segment
    latents = pool.latents[:, : w * (APART + max(SAME))].float()
    one, other = latents[0::2], latents[1::2]
    b = min(len(one), len(other))
    one, other = one[:b], other[:b]
    text, _ = model.text_slots(torch.zeros(b, sum(model.config.slots)))
    start = model.initial_memory(text, model.image_tokens(one[:, :1], torch.ones(b)))
    psi = torch.stack([start, start]).flatten(0, 1)
    found, apart = {}, []
    for k in range(APART + max(SAME)):
        mine, theirs = one[:, w * k : w * (k + 1)], other[:, w * k : w * (k + 1)]
        seen = torch.cat([mine, theirs if k < APART else mine])
        psi = model.squeeze(psi, model.memorize(seen))
        apart.append((psi[:b] - psi[b:]).pow(2).mean((1, 2)).sqrt())
    for updates in SAME:
        found[updates] = (apart[APART - 1 + updates] / apart[APART - 1]).tolist()
    return found
