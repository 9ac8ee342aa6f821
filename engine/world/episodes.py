"""Episodes: the attributes in force, the hero's actions, and the resulting state of every frame.

This module applies the rules of motion and of change. Pictures are unknown here.

Shapes: B batch, L latent frames, F = 4 L pixel frames, N = flattened pixel frames. Attributes are int64
indices in the order of FIELDS; weights are soft one-hots that sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from engine.world.attributes import FIELDS, FRAMES_PER_LATENT, VALUES, WALK_PX_PER_FRAME
from engine.world.motion import LATENT_PX, arc, facing, ramp, walk_and_jump
from engine.world.sampling import add_journeys, integers, sample_actions, sample_attributes

CHANGE_FRAMES: Final[Mapping[str, int]] = {"place": 16, "time": 24, "weather": 16, "hero": 8, "colour": 8}
"""Frames until a change is complete, counted from the first frame of the latent frame that requests it."""

CLOCK_PERIOD: Final = 8  # frames after which everything periodic repeats: one segment


@dataclass(frozen=True)
class Frames:
    """Pixel frames in no particular order, with all that a renderer needs to know about each."""

    seed: Tensor  # (N, 1) int64
    camera: Tensor  # (N,) px
    hero_y: Tensor  # (N,) px above the ground
    facing: Tensor  # (N,) -1 or +1
    clock: Tensor  # (N,) int64
    weights: Mapping[str, Tensor]  # field -> (N, number of its values)

    def __len__(self) -> int:
        return len(self.camera)

    def pick(self, which: slice | Tensor) -> Frames:
        weights = {name: value[which] for name, value in self.weights.items()}
        return Frames(
            self.seed[which],
            self.camera[which],
            self.hero_y[which],
            self.facing[which],
            self.clock[which],
            weights,
        )


@dataclass(frozen=True)
class Episodes:
    attributes: Tensor  # (B, L, 5) int64: the targets in force
    actions: Tensor  # (B, L) int64
    seed: Tensor  # (B,) int64
    camera: Tensor  # (B, F) px
    hero_y: Tensor  # (B, F) px above the ground
    facing: Tensor  # (B, F) -1 or +1
    clock: Tensor  # (B, F) int64: frame number, for everything periodic in time
    weights: Mapping[str, Tensor]  # field -> (B, F, number of its values)

    @property
    def batch(self) -> int:
        return self.actions.shape[0]

    @property
    def latents(self) -> int:
        return self.actions.shape[1]

    def window(self, start: int, stop: int | None = None) -> Episodes:
        """Latent frames [start, stop), including changes that are still in progress at the start."""
        latents = slice(start, self.latents if stop is None else stop)
        frames = slice(latents.start * FRAMES_PER_LATENT, latents.stop * FRAMES_PER_LATENT)
        return Episodes(
            attributes=self.attributes[:, latents],
            actions=self.actions[:, latents],
            seed=self.seed,
            camera=self.camera[:, frames],
            hero_y=self.hero_y[:, frames],
            facing=self.facing[:, frames],
            clock=self.clock[:, frames],
            weights={name: value[:, frames] for name, value in self.weights.items()},
        )

    def to(self, device: torch.device | str) -> Episodes:
        tensors = {
            name: getattr(self, name).to(device)
            for name in ("attributes", "actions", "seed", "camera", "hero_y", "facing", "clock")
        }
        return replace(
            self, **tensors, weights={name: value.to(device) for name, value in self.weights.items()}
        )

    def frames(self, start: int = 0, stop: int | None = None) -> Frames:
        """Pixel frames [start, stop) of all rows, one row after the other."""
        cut = slice(start, stop)
        length = self.camera[:, cut].shape[1]
        return Frames(
            seed=self.seed[:, None].expand(-1, length).reshape(-1, 1),
            camera=self.camera[:, cut].reshape(-1),
            hero_y=self.hero_y[:, cut].reshape(-1),
            facing=self.facing[:, cut].reshape(-1),
            clock=self.clock[:, cut].reshape(-1),
            weights={name: value[:, cut].flatten(0, 1) for name, value in self.weights.items()},
        )


def from_script(
    attributes: Tensor,
    actions: Tensor,
    seed: Tensor,
    *,
    camera: Tensor | int = 0,
    clock: Tensor | int = 0,
) -> Episodes:
    """Derive every frame from targets (B, L, 5), actions (B, L) and seeds (B,).

    `camera` (px) and `clock` (frames) are the values before the first frame, one for all rows or (B,).
    Multiples of a latent cell (8 px) and of 4 frames keep the world in step with its latents. Raises
    ValueError for shapes that do not match.
    """
    if attributes.shape != (*actions.shape, len(FIELDS)):
        shapes = f"attributes {tuple(attributes.shape)}, actions {tuple(actions.shape)}"
        raise ValueError(f"(B, L, {len(FIELDS)}) and (B, L) wanted, not {shapes}")
    if seed.shape != actions.shape[:1]:
        raise ValueError(f"one seed per row wanted, not {tuple(seed.shape)} for {actions.shape[0]} rows")
    batch, latents = actions.shape
    device = actions.device
    step, phase = walk_and_jump(actions)
    moved = step.repeat_interleave(FRAMES_PER_LATENT, 1).cumsum(1) * WALK_PX_PER_FRAME
    number = torch.arange(latents * FRAMES_PER_LATENT, device=device)
    weights = {
        name: ramp(one_hot(attributes[:, :, i], len(VALUES[name])), CHANGE_FRAMES[name])
        for i, name in enumerate(FIELDS)
    }
    return Episodes(
        attributes=attributes,
        actions=actions,
        seed=seed,
        camera=(_column(camera, batch, device) + moved).float(),
        hero_y=arc(phase),
        facing=facing(step).repeat_interleave(FRAMES_PER_LATENT, 1).float(),
        clock=_column(clock, batch, device) + number,
        weights=weights,
    )


def _column(value: Tensor | int, batch: int, device: torch.device) -> Tensor:
    return torch.as_tensor(value, device=device).expand(batch)[:, None]


def sample_episodes(
    batch: int,
    length: int,
    generator: torch.Generator,
    *,
    changes: float = 1.5,
    journeys: float = 0.25,
    device: torch.device | str = "cpu",
) -> Episodes:
    """Random episodes of `length` latent frames.

    `changes` is the expected number of prompts per 28 latent frames; some episodes have none, some about
    twice as many. `journeys` is the share of episodes that contain a walk out and back the same way.
    """
    attributes = sample_attributes(batch, length, generator, changes)
    actions = sample_actions(batch, length, generator)
    if length >= 6:
        add_journeys(actions, generator, journeys)
    camera = integers(-2000, 2000, (batch,), generator) * LATENT_PX
    clock = integers(0, CLOCK_PERIOD // FRAMES_PER_LATENT, (batch,), generator) * FRAMES_PER_LATENT
    seed = integers(0, 2**30, (batch,), generator)
    return from_script(attributes, actions, seed, camera=camera, clock=clock).to(device)
