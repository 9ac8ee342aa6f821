"""The rules of motion and of change: from actions and targets per latent frame to states per pixel frame.

Shapes: B batch, L latent frames, F = 4 L pixel frames, V values of an attribute.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from engine.world.attributes import ACTIONS, FRAMES_PER_LATENT, JUMP_FRAMES, JUMP_HEIGHT_PX, WALK_PX_PER_FRAME

IDLE, LEFT, RIGHT, JUMP = range(len(ACTIONS))
LATENT_PX: Final = WALK_PX_PER_FRAME * FRAMES_PER_LATENT


def walk_and_jump(actions: Tensor) -> tuple[Tensor, Tensor]:
    """Direction (-1, 0, 1) and phase of the jump (0 none, 1 rising, 2 falling) of each latent frame (B,
    L)."""
    step = (actions == RIGHT).long() - (actions == LEFT).long()
    phase = torch.zeros_like(actions)
    before = torch.zeros_like(actions[:, 0])
    for i in range(actions.shape[1]):
        before = torch.where(before == 1, 2, (actions[:, i] == JUMP).long())
        phase[:, i] = before
    return step, phase


def facing(step: Tensor) -> Tensor:
    """The latest horizontal direction (B, L); right until the hero has walked."""
    position = torch.arange(1, step.shape[1] + 1, device=step.device).expand_as(step)
    latest = torch.where(step != 0, position, 0).cummax(1).values
    directions = torch.cat([torch.ones_like(step[:, :1]), step], 1)
    return directions.gather(1, latest)


def ramp(target: Tensor, frames: int) -> Tensor:
    """One-hots per latent frame (B, L, V) -> mean of the last `frames` pixel frames (B, F, V).

    It is counted in integers, so that the weights of a complete change are exactly one and zero.
    """
    fine = target.repeat_interleave(FRAMES_PER_LATENT, 1)
    padded = torch.cat([fine[:, :1].expand(-1, frames, -1), fine], 1).cumsum(1)
    return (padded[:, frames:] - padded[:, :-frames]).float() / frames


def arc(phase: Tensor) -> Tensor:
    """Phases of the jump (B, L) -> height above the ground in px (B, F).

    A frame shows the state after its own motion, so the last frame of a jump is on the ground.
    """
    within = torch.arange(1, FRAMES_PER_LATENT + 1, device=phase.device)
    u = ((phase[:, :, None] - 1) * FRAMES_PER_LATENT + within).flatten(1).float() / JUMP_FRAMES
    return torch.where(u > 0, 4 * JUMP_HEIGHT_PX * u * (1 - u), 0.0)
