"""What happens: which attributes are in force, what the hero does, and where that puts it in every frame.

Knows the rules of motion and of change, nothing about pictures.

Shapes: B batch, L latent frames, F = 4 L pixel frames, N = flattened pixel frames. Attributes are int64 indices
in the order of FIELDS; weights are soft one-hots that sum to one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Mapping

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from engine.world.attributes import (
    ACTIONS,
    FIELDS,
    FRAMES_PER_LATENT,
    JUMP_FRAMES,
    JUMP_HEIGHT_PX,
    VALUES,
    WALK_PX_PER_FRAME,
)

CHANGE_FRAMES: Final[Mapping[str, int]] = {"place": 16, "time": 24, "weather": 16, "hero": 8, "colour": 8}
"""How long a change takes to be complete, from the first frame of the latent frame that asks for it."""

IDLE, LEFT, RIGHT, JUMP = range(len(ACTIONS))
LATENT_PX: Final = WALK_PX_PER_FRAME * FRAMES_PER_LATENT
CLOCK_PERIOD: Final = 24  # frames until falling snow repeats


@dataclass(frozen=True)
class Frames:
    """Pixel frames without their order: all that a renderer has to know of each."""

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
            self.seed[which], self.camera[which], self.hero_y[which], self.facing[which], self.clock[which], weights
        )


@dataclass(frozen=True)
class Episodes:
    attributes: Tensor  # (B, L, 5) int64: targets in force
    actions: Tensor  # (B, L) int64
    seed: Tensor  # (B,) int64
    camera: Tensor  # (B, F) px
    hero_y: Tensor  # (B, F) px above the ground
    facing: Tensor  # (B, F) -1 or +1
    clock: Tensor  # (B, F) int64: frame number for whatever is periodic in time
    weights: Mapping[str, Tensor]  # field -> (B, F, number of its values)

    @property
    def batch(self) -> int:
        return self.actions.shape[0]

    @property
    def latents(self) -> int:
        return self.actions.shape[1]

    def window(self, start: int, stop: int | None = None) -> Episodes:
        """Latent frames [start, stop), with whatever was still changing at their beginning."""
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

    def select(self, rows: Tensor | slice) -> Episodes:
        """Some of the batch."""
        return Episodes(
            self.attributes[rows], self.actions[rows], self.seed[rows], self.camera[rows], self.hero_y[rows],
            self.facing[rows], self.clock[rows], {name: value[rows] for name, value in self.weights.items()},
        )  # fmt: skip

    def to(self, device: torch.device | str) -> Episodes:
        tensors = {
            name: getattr(self, name).to(device)
            for name in ("attributes", "actions", "seed", "camera", "hero_y", "facing", "clock")
        }
        return replace(self, **tensors, weights={name: value.to(device) for name, value in self.weights.items()})

    def frames(self, start: int = 0, stop: int | None = None) -> Frames:
        """Pixel frames [start, stop) of all rows, flattened row by row."""
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

    `camera` (px) and `clock` (frames) are the values before the first frame, one for all or (B,). Multiples of
    16 px and 4 frames keep everything periodic in a latent frame.
    """
    if attributes.shape != (*actions.shape, len(FIELDS)):
        raise ValueError(f"attributes {tuple(attributes.shape)} do not go with actions {tuple(actions.shape)}")
    if seed.shape != actions.shape[:1]:
        raise ValueError(f"one seed per row wanted, not {tuple(seed.shape)} for {actions.shape[0]} rows")
    batch, latents = actions.shape
    device = actions.device
    step, phase = _motion(actions)
    frames = latents * FRAMES_PER_LATENT
    moved = step.repeat_interleave(FRAMES_PER_LATENT, 1).cumsum(1) * WALK_PX_PER_FRAME
    number = torch.arange(frames, device=device)
    # Frame k shows the state after its own motion: the last frame of the arc is on the ground again.
    u = (phase.repeat_interleave(FRAMES_PER_LATENT, 1) - 1) * FRAMES_PER_LATENT + number % FRAMES_PER_LATENT + 1
    arc = u.float() / JUMP_FRAMES
    hero_y = torch.where(u > 0, 4 * JUMP_HEIGHT_PX * arc * (1 - arc), 0.0)
    weights = {
        name: _ramp(one_hot(attributes[:, :, i], len(VALUES[name])), CHANGE_FRAMES[name])
        for i, name in enumerate(FIELDS)
    }
    return Episodes(
        attributes=attributes,
        actions=actions,
        seed=seed,
        camera=(_column(camera, batch, device) + moved).float(),
        hero_y=hero_y,
        facing=_facing(step).repeat_interleave(FRAMES_PER_LATENT, 1).float(),
        clock=_column(clock, batch, device) + number,
        weights=weights,
    )


def _column(value: Tensor | int, batch: int, device: torch.device) -> Tensor:
    return torch.as_tensor(value, device=device).expand(batch)[:, None]


def _motion(actions: Tensor) -> tuple[Tensor, Tensor]:
    """Direction of each latent frame (-1, 0, 1) and phase of the jump (0 none, 1 rising, 2 falling), (B, L)."""
    step = (actions == RIGHT).long() - (actions == LEFT).long()
    phase = torch.zeros_like(actions)
    before = torch.zeros_like(actions[:, 0])
    for i in range(actions.shape[1]):
        before = torch.where(before == 1, 2, (actions[:, i] == JUMP).long())
        phase[:, i] = before
    return step, phase


def _facing(step: Tensor) -> Tensor:
    """The latest horizontal direction, right before there was any."""
    position = torch.arange(1, step.shape[1] + 1, device=step.device).expand_as(step)
    latest = torch.where(step != 0, position, 0).cummax(1).values
    directions = torch.cat([torch.ones_like(step[:, :1]), step], 1)
    return directions.gather(1, latest)


def _ramp(target: Tensor, frames: int) -> Tensor:
    """One-hots per latent frame (B, L, V) -> mean of the last `frames` pixel frames (B, F, V).

    Counted in integers, so that a finished change is exactly one and zero.
    """
    fine = target.repeat_interleave(FRAMES_PER_LATENT, 1)
    padded = torch.cat([fine[:, :1].expand(-1, frames, -1), fine], 1).cumsum(1)
    return (padded[:, frames:] - padded[:, :-frames]).float() / frames


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

    `changes` is the expected number of prompts per 28 latent frames: some episodes have none, some twice as
    many. `journeys` is the share of episodes that go out and back the same way.
    """
    attributes = _sample_attributes(batch, length, generator, changes)
    actions = _sample_actions(batch, length, generator)
    if length >= 6:
        _add_journeys(actions, generator, journeys)
    camera = _integers(-2000, 2000, (batch,), generator) * LATENT_PX
    clock = _integers(0, CLOCK_PERIOD // FRAMES_PER_LATENT, (batch,), generator) * FRAMES_PER_LATENT
    seed = _integers(0, 2**30, (batch,), generator)
    return from_script(attributes, actions, seed, camera=camera, clock=clock).to(device)


def _integers(low: int, high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(low, high, shape, generator=generator, device=generator.device)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _sample_attributes(batch: int, length: int, generator: torch.Generator, changes: float) -> Tensor:
    sizes = torch.tensor([len(VALUES[name]) for name in FIELDS], device=generator.device)
    current = (_uniform((batch, len(FIELDS)), generator) * sizes).long()
    # 30 % long stays, 45 % the usual, 25 % restless; one on average.
    mood = _uniform((batch,), generator)
    chance = changes / 28 * torch.where(mood < 0.3, 0.0, torch.where(mood < 0.75, 1.0, 2.2))
    rows = []
    for i in range(length):
        if i:
            change = _uniform((batch,), generator) < chance
            several = _uniform((batch,), generator) < 0.3
            order = _uniform((batch, len(FIELDS)), generator).argsort(1).argsort(1)
            count = torch.where(several, _integers(2, len(FIELDS) + 1, (batch,), generator), 1)
            shift = 1 + (_uniform((batch, len(FIELDS)), generator) * (sizes - 1)).long()
            touched = change[:, None] & (order < count[:, None])
            current = torch.where(touched, (current + shift) % sizes, current)
        rows.append(current)
    return torch.stack(rows, 1)


def _sample_actions(batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Runs of one action: walks of 1 to 12 latent frames, jumps and pauses shorter."""
    current = torch.zeros(batch, dtype=torch.int64, device=generator.device)
    left = torch.zeros_like(current)
    columns = []
    for _ in range(length):
        dice = _uniform((batch,), generator)
        drawn = torch.where(dice < 0.40, RIGHT, torch.where(dice < 0.70, LEFT, torch.where(dice < 0.85, IDLE, JUMP)))
        longest = torch.tensor([8, 12, 12, 3], device=generator.device)[drawn]
        run = 1 + (_uniform((batch,), generator) * longest).long()
        fresh = left == 0
        current = torch.where(fresh, drawn, current)
        left = torch.where(fresh, run, left) - 1
        columns.append(current)
    return torch.stack(columns, 1)


def _add_journeys(actions: Tensor, generator: torch.Generator, share: float) -> None:
    """Overwrite some rows, in place, with a walk out and the same walk back."""
    batch, length = actions.shape
    chosen = _uniform((batch,), generator) < share
    reach = 3 + (_uniform((batch,), generator) * (length // 2 - 2)).long()
    begin = (_uniform((batch,), generator) * (length - 2 * reach + 1)).long()
    out = torch.where(_uniform((batch,), generator) < 0.5, RIGHT, LEFT)
    at = torch.arange(length, device=actions.device)[None, :] - begin[:, None]
    going = chosen[:, None] & (at >= 0) & (at < reach[:, None])
    coming = chosen[:, None] & (at >= reach[:, None]) & (at < 2 * reach[:, None])
    actions[going] = out[:, None].expand_as(actions)[going]
    actions[coming] = (LEFT + RIGHT - out)[:, None].expand_as(actions)[coming]
