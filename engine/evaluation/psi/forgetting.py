"""How long ψ can remember at all: what is left of a difference between two pasts after they have seen the
same.

ψ is a recurrence. Two of them are fed different segments, then the same ones; if their difference dies within
a few updates, no training signal and no size of ψ can carry what a return asks for. Needs no sampling, no
history and no labels.

Legend: B pairs of videos, W latent frames of a segment.
"""

from __future__ import annotations

from typing import Final

import torch

from engine.model.wander.transformer import WanderDiT
from engine.training.data.latents import Pool

APART: Final = 4  # segments that differ
SAME: Final = (1, 4, 16)  # updates after which is looked; 4 are 2 s in the built-in world
SILENT: Final = -1000.0  # a key bias under which ψ is not heard


@torch.no_grad()
def left(model: WanderDiT, pool: Pool) -> dict[int, list[float]] | None:
    """By number of common updates, the rms difference of ψ as a share of what it was when the pasts began to
    be the same, one per pair of neighbours in the pool. None for a model that does not hear ψ."""
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
