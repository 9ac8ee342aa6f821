"""Ground truth for every pixel frame: what the picture shows, for probes and measurements.

Shapes: B batch, F pixel frames, S landmark slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.world.attributes import FIELDS, FRAMES_PER_LATENT, HERO_X, WIDTH
from engine.world.drawing.landmarks import SLOTS, survey
from engine.world.drawing.scene import terrain
from engine.world.episodes import Episodes


@dataclass(frozen=True)
class Labels:
    attributes: Tensor  # (B, F, 5) int64: the targets in force
    settled: Tensor  # (B, F, 5) bool: whether the picture shows the target and nothing else
    actions: Tensor  # (B, F) int64
    camera: Tensor  # (B, F) px
    hero_x: Tensor  # (B, F) screen column
    hero_y: Tensor  # (B, F) screen row of the feet, or of the ground below a hovering hero
    facing: Tensor  # (B, F) -1 or +1
    landmark_visible: Tensor  # (B, F, S) bool: its middle is on the screen; ignore other slots
    landmark_index: Tensor  # (B, F, S) int64
    landmark_kind: Tensor  # (B, F, S) index into LANDMARKS
    landmark_colour: Tensor  # (B, F, S) index into COLOURS
    landmark_x: Tensor  # (B, F, S) screen column of its middle


@torch.no_grad()
def labels(episodes: Episodes) -> Labels:
    batch, length = episodes.camera.shape
    targets = episodes.attributes.repeat_interleave(FRAMES_PER_LATENT, 1)
    settled = torch.stack(
        [
            episodes.weights[name].gather(2, targets[:, :, i : i + 1])[:, :, 0] >= 1
            for i, name in enumerate(FIELDS)
        ],
        2,
    )
    frames = episodes.frames()
    marks = survey(frames.camera, frames.seed)
    ground = terrain(frames.camera[:, None]).view(batch, length)
    shape = (batch, length, SLOTS)
    return Labels(
        attributes=targets,
        settled=settled,
        actions=episodes.actions.repeat_interleave(FRAMES_PER_LATENT, 1),
        camera=episodes.camera,
        hero_x=torch.full_like(episodes.camera, HERO_X),
        hero_y=ground - episodes.hero_y,
        facing=episodes.facing,
        landmark_visible=((marks.screen_x >= 0) & (marks.screen_x < WIDTH)).view(shape),
        landmark_index=marks.number.view(shape),
        landmark_kind=marks.kind.view(shape),
        landmark_colour=marks.colour.view(shape),
        landmark_x=marks.screen_x.view(shape),
    )
