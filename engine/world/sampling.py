"""Random targets and actions of episodes: when prompts change, what the hero does, and journeys out and back.

`episodes` derives the rest from them. Shapes: B batch, L latent frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.world.attributes import FIELDS, VALUES
from engine.world.motion import IDLE, JUMP, LEFT, RIGHT


def integers(low: int, high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(low, high, shape, generator=generator, device=generator.device)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def sample_attributes(batch: int, length: int, generator: torch.Generator, changes: float) -> Tensor:
    sizes = torch.tensor([len(VALUES[name]) for name in FIELDS], device=generator.device)
    current = (uniform((batch, len(FIELDS)), generator) * sizes).long()
    # 30 % of episodes never change, 45 % change at the usual rate, 25 % more often; the mean factor is 1.
    mood = uniform((batch,), generator)
    chance = changes / 28 * torch.where(mood < 0.3, 0.0, torch.where(mood < 0.75, 1.0, 2.2))
    rows = []
    for i in range(length):
        if i:
            change = uniform((batch,), generator) < chance
            several = uniform((batch,), generator) < 0.3
            order = uniform((batch, len(FIELDS)), generator).argsort(1).argsort(1)
            count = torch.where(several, integers(2, len(FIELDS) + 1, (batch,), generator), 1)
            shift = 1 + (uniform((batch, len(FIELDS)), generator) * (sizes - 1)).long()
            touched = change[:, None] & (order < count[:, None])
            current = torch.where(touched, (current + shift) % sizes, current)
        rows.append(current)
    return torch.stack(rows, 1)


def sample_actions(batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Runs of one action: walks last 1 to 12 latent frames, jumps and pauses are shorter. -> (B, L)."""
    current = torch.zeros(batch, dtype=torch.int64, device=generator.device)
    left = torch.zeros_like(current)
    columns = []
    for _ in range(length):
        dice = uniform((batch,), generator)
        drawn = torch.where(
            dice < 0.40, RIGHT, torch.where(dice < 0.70, LEFT, torch.where(dice < 0.85, IDLE, JUMP))
        )
        longest = torch.tensor([8, 12, 12, 3], device=generator.device)[drawn]
        run = 1 + (uniform((batch,), generator) * longest).long()
        fresh = left == 0
        current = torch.where(fresh, drawn, current)
        left = torch.where(fresh, run, left) - 1
        columns.append(current)
    return torch.stack(columns, 1)


def add_journeys(actions: Tensor, generator: torch.Generator, share: float) -> None:
    """Overwrite part of some rows, in place, with a walk out and the same walk back."""
    batch, length = actions.shape
    chosen = uniform((batch,), generator) < share
    reach = 3 + (uniform((batch,), generator) * (length // 2 - 2)).long()
    begin = (uniform((batch,), generator) * (length - 2 * reach + 1)).long()
    out = torch.where(uniform((batch,), generator) < 0.5, RIGHT, LEFT)
    at = torch.arange(length, device=actions.device)[None, :] - begin[:, None]
    going = chosen[:, None] & (at >= 0) & (at < reach[:, None])
    coming = chosen[:, None] & (at >= reach[:, None]) & (at < 2 * reach[:, None])
    actions[going] = out[:, None].expand_as(actions)[going]
    actions[coming] = (LEFT + RIGHT - out)[:, None].expand_as(actions)[coming]
