"""Hints: what a model with a known camera gets for every cell besides its noise.

In a world in step with its latents (engine.world: the law of motion) the next segment equals the previous one
with each layer moved by whole cells, as long as the motion stays the same. So each noisy cell gets

- the last latent, and the same frame of the previous segment: unmoved, and moved as each layer has moved;
- for each layer, the view that structure W kept of the place this cell will show, if there is one;
- the landmark that is planned there.

The network decides which layer a cell belongs to, and draws what has not been seen yet. These are pure
functions; the camera and the plan are data, and nothing is learned.

Legend: B batch, W latent frames of a segment, K history frames, C h w latent, L layers, M landmarks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.model.config import COLOURS, KINDS, PLAN, CameraConfig, ModelConfig
from engine.model.flow import wide
from engine.model.wander.places import Places, Recalled, recall

LANDMARK = 4  # numbers per planned landmark: x in world px, kind counted from 1 (0: none), colour, size
REACH_PX = 26.0  # half the width of a landmark of size 1


class Way(NamedTuple):
    """The camera's motion during a segment."""

    step: Tensor  # (B, W) -1, 0, 1
    odometer: Tensor  # (B, W) int64, at the end of each frame
    moved: Tensor  # (B, W) steps since the same frame of the previous segment


def way(odometer: Tensor, acted: Tensor, actions: Tensor, c: ModelConfig) -> Way:
    """odometer (B,) at the start of the segment; acted (B, W), the actions of the previous segment."""

    def steps(a: Tensor) -> Tensor:
        return (a == c.actions.index("right")).long() - (a == c.actions.index("left")).long()

    step, before = steps(actions), steps(acted)
    since = before.flip(1).cumsum(1).flip(1) - before  # steps after each frame of the previous segment
    return Way(step, odometer[:, None] + step.cumsum(1), since + step.cumsum(1))


def scenery(odometer: Tensor, width: int, camera: CameraConfig) -> Tensor | None:
    """Where in the scenery each token stands: odometer (B, W) → (B, W, L, w/2) int64 for the L layers that
    move, rows of the model's table of scenery. A token covers two columns of the picture; its left one
    counts. None for models without a table."""
    if not camera.loop:
        return None
    left = torch.arange(0, width, 2, device=odometer.device)
    rows, first = [], 0
    for step, grid in zip(camera.layer_steps, camera.layer_grid, strict=True):
        if step:
            length = grid * camera.loop
            rows.append(first + (step * odometer[..., None] + grid * left) % length)
            first += length
    return torch.stack(rows, 2)


def same_phase(history: Tensor, moved: Tensor, camera: CameraConfig) -> Tensor:
    """The previous segment, frame by frame: unmoved, then moved as each layer has moved. history
    (B, K, C, h, w), moved (B, W) → (B, W, 1 + moving layers, C, h, w). Half a cell is the mean of two
    cells."""
    w = moved.shape[1]
    before = history[:, -w:]
    width = before.shape[-1]
    column = torch.arange(width, device=history.device)
    out = [before]
    for step, grid in zip(camera.layer_steps, camera.layer_grid, strict=True):
        if not step:
            continue
        low = torch.div(step * moved, grid, rounding_mode="floor")
        high = -torch.div(-step * moved, grid, rounding_mode="floor")
        pair = [
            before.gather(
                4, (column + by[:, :, None]).clamp(0, width - 1)[:, :, None, None].expand_as(before)
            )
            for by in (low, high)
        ]
        out.append((pair[0] + pair[1]) / 2)
    return torch.stack(out, 2)


def planned(landmarks: Tensor, odometer: Tensor, width: int, camera: CameraConfig) -> Tensor:
    """landmarks (B, M, 4), odometer (B, W) → (B, W, 19, w), the plan for each column: kind and colour as
    one-hots, whether there is a landmark, its size, and the column's position within it."""
    x, kind, colour, size = landmarks.unbind(-1)
    cell = camera.cell_px
    centre = torch.arange(width, device=x.device) * cell + cell / 2
    at = x[:, None] - odometer[:, :, None] * cell + camera.hero_px  # (B, W, M) screen px of its middle
    away = centre - at[..., None]  # (B, W, M, w)
    there = (away.abs() < REACH_PX * size[:, None, :, None]) & (kind[:, None, :, None] > 0)
    inside = there.float()
    kinds = F.one_hot((kind.long() - 1).clamp(min=0), KINDS).float()
    colours = F.one_hot(colour.long(), COLOURS).float()
    return torch.cat(
        [
            torch.einsum("bfmx,bmk->bfkx", inside, kinds),
            torch.einsum("bfmx,bmk->bfkx", inside, colours),
            inside.sum(2, keepdim=True),
            (inside * size[:, None, :, None]).sum(2, keepdim=True),
            (inside * away / REACH_PX).sum(2, keepdim=True),
        ],
        2,
    )


def present(plan: Tensor) -> Tensor:
    """Plan (B, W, 19, w) → (B, W, w), 1 where there is a landmark."""
    return plan[:, :, KINDS + COLOURS]


def hints(
    history: Tensor,
    context: Tensor,
    *,
    where: Way,
    places: Places,
    look: Tensor,
    landmarks: Tensor,
    camera: CameraConfig,
) -> Tensor:
    """All hints, (B, W, `camera.hints(C)`, h, w): first the candidates for the cell's content (the last
    latent, the same phase, the places), then their flags, then the plan.

    history (B, K, C, h, w) as the network gets it; context (B,) is 0 where no scene has begun."""
    width = history.shape[-1]
    seen = recall(places, where.odometer, look, width, camera)
    plan = planned(landmarks, where.odometer, width, camera)
    return assemble(history * wide(context, history), where.moved, seen, plan, camera)


def landmark(hints: Tensor) -> Tensor:
    """Of the hints of a segment: 1 where a landmark is planned, (B, W, 1, h, w)."""
    return hints[:, :, KINDS + COLOURS - PLAN][:, :, None]


def known(hints: Tensor, c: ModelConfig) -> Tensor:
    """The flags among a segment's hints that are 1 where structure W has a view, (B, W, L, h, w)."""
    assert c.camera is not None
    first = c.camera.candidates * c.channels
    return hints[:, :, first : first + len(c.camera.layer_steps)]


def assemble(history: Tensor, moved: Tensor, seen: Recalled, plan: Tensor, camera: CameraConfig) -> Tensor:
    w = moved.shape[1]
    height = history.shape[-2]
    last = history[:, -1:, None].expand(-1, w, -1, -1, -1, -1)
    candidates = torch.cat([last, same_phase(history, moved, camera), seen.views], 2).flatten(2, 3)
    flags = torch.cat([seen.known, seen.current, seen.motion, plan], 2)
    return torch.cat([candidates, flags[..., None, :].expand(-1, -1, -1, height, -1)], 2)
