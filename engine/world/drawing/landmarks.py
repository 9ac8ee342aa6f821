"""Landmarks: their positions, kinds, colours and sizes, and how they are painted into the picture.

All of these are functions of (seed, number), so they are the same in every place and on every visit. Drawings
are in `landmark_shapes`. Shapes: N frames, S slots (landmarks that can touch the screen at once), W columns.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from engine.world.attributes import COLOURS, HERO_X, LANDMARK_JITTER_PX, LANDMARK_SPACING_PX, LANDMARKS, WIDTH
from engine.world.drawing.landmark_shapes import DRAWINGS, Site
from engine.world.drawing.light import Light
from engine.world.drawing.noise import hash01, pick
from engine.world.drawing.paint import assemble, mix, over, rgb
from engine.world.drawing.scene import terrain

SPACING: Final = LANDMARK_SPACING_PX
JITTER: Final = LANDMARK_JITTER_PX
SLOTS: Final = 3
SPRITE = 64  # px square; less than the smallest distance between two landmarks
ROWS = slice(20, 84)

# In the order of COLOURS. Less bright than heroes, so that the two are not confused.
PALETTE: Final = (
    (0.80, 0.22, 0.20), (0.92, 0.50, 0.14), (0.94, 0.78, 0.24), (0.24, 0.60, 0.30),
    (0.22, 0.42, 0.80), (0.54, 0.30, 0.68), (0.93, 0.93, 0.91), (0.20, 0.20, 0.25),
)  # fmt: skip


class Landmarks(NamedTuple):
    number: Tensor  # (N, S) int64, counted along the world
    world_x: Tensor  # (N, S) px
    screen_x: Tensor  # (N, S) px
    kind: Tensor  # (N, S) index into LANDMARKS
    colour: Tensor  # (N, S) index into COLOURS
    size: Tensor  # (N, S)


def survey(camera: Tensor, seed: Tensor) -> Landmarks:
    """The landmarks that can touch the screen: camera (N,), seed (N, 1)."""
    first = ((camera - HERO_X - SPRITE / 2) / SPACING).floor().long()
    number = first[:, None] + torch.arange(SLOTS, device=camera.device)
    return facts(number, seed, camera)


def facts(number: Tensor, seed: Tensor, camera: Tensor) -> Landmarks:
    """The landmarks with these numbers (N, S): seed (N, 1), camera (N,)."""
    world_x = (number * SPACING + SPACING // 2).float() + (
        hash01(seed, number, 301) * (2 * JITTER) - JITTER
    ).round()
    return Landmarks(
        number=number,
        world_x=world_x,
        screen_x=world_x - camera[:, None] + HERO_X,
        kind=pick(seed, number, 302, len(LANDMARKS)),
        colour=pick(seed, number, 303, len(COLOURS)),
        size=0.82 + 0.34 * hash01(seed, number, 304),
    )


def plan(camera: Tensor, seed: Tensor, count: int) -> Tensor:
    """The first `count` landmarks from the left edge of the leftmost picture: camera (E, F) px, seed (E,)
    → (E, count, 4): x in world px, kind counted from 1, colour, size."""
    first = ((camera.amin(1) - HERO_X - SPRITE / 2) / SPACING).floor().long()
    number = first[:, None] + torch.arange(count, device=camera.device)
    marks = facts(number, seed[:, None], camera[:, 0])
    return torch.stack([marks.world_x, 1.0 + marks.kind, marks.colour.float(), marks.size], -1)


def paint_landmarks(image: Tensor, light: Light, camera: Tensor, seed: Tensor, clock: Tensor) -> None:
    """Paint landmarks into image (N, 3, 96, 160) in place."""
    marks = survey(camera, seed)
    visible = (marks.screen_x > -SPRITE / 2) & (marks.screen_x < WIDTH + SPRITE / 2)
    frame, slot = visible.nonzero(as_tuple=True)
    if not len(frame):
        return
    sprites = draw_sprites(light, marks, frame, slot, seed, clock)
    # A screen column belongs to at most one landmark, so it is looked up in a table of all sprites' columns.
    width = sprites.shape[1]
    table = sprites.reshape(len(frame) * width, -1)
    table = torch.cat([table, table.new_zeros(1, table.shape[1])])
    number = torch.full(visible.shape, -1, device=image.device)
    number[frame, slot] = torch.arange(len(frame), device=image.device)
    columns = torch.arange(WIDTH, device=image.device)
    lookup = torch.full((len(camera), WIDTH), len(table) - 1, device=image.device)
    for s in range(SLOTS):
        local = columns - marks.screen_x[:, s, None].long() + SPRITE // 2
        mine = (local >= 0) & (local < SPRITE) & (number[:, s, None] >= 0)
        lookup = torch.where(mine, number[:, s, None] * width + local, lookup)
    band = table[lookup].view(len(camera), WIDTH, 4, SPRITE).permute(0, 2, 3, 1)
    over(image[:, :, ROWS], band[:, :3], band[:, 3:])


def draw_sprites(
    light: Light, marks: Landmarks, frame: Tensor, slot: Tensor, seed: Tensor, clock: Tensor
) -> Tensor:
    """One sprite per visible landmark -> (M, columns, 4 * rows), premultiplied colour and alpha."""
    kind, size = marks.kind[frame, slot], marks.size[frame, slot]
    ground = terrain(marks.world_x[frame, slot][:, None])[:, 0]
    device = size.device
    rows = torch.arange(ROWS.start, ROWS.stop, device=device, dtype=torch.float32)
    columns = torch.arange(SPRITE, device=device, dtype=torch.float32) - SPRITE // 2
    paint = torch.tensor(PALETTE, device=device)[marks.colour[frame, slot]]
    sprites = torch.zeros(len(frame), SPRITE, 4 * SPRITE, device=device)
    for i, draw in enumerate(DRAWINGS):
        who = (kind == i).nonzero()[:, 0]
        if not len(who):
            continue
        at = frame[who]
        mist = mix(light.mist, light.low, 0.2)[at]
        # Brighter and less tinted than the scenery, so that colours can be told apart at night.
        tint = 0.22 + 0.78 * mix(light.tint, light.tint.mean(1, keepdim=True).expand(-1, 3), 0.35)[at]
        scale = size[who][:, None, None]

        def lit(
            colour: Tensor,
            emission: Tensor | float = 0.0,
            at: Tensor = at,
            tint: Tensor = tint,
            mist: Tensor = mist,
        ) -> Tensor:
            return mix(mix(colour * tint, colour.expand(len(at), 3), emission), mist, 0.28 * light.fog[at])

        site = Site(
            x=columns[None, None, :] / scale,
            y=(ground[who][:, None, None] + 1.5 - rows[None, :, None]) / scale,
            scale=scale,
            turn=(clock[at] % 4).float()[:, None, None] / 4,
            paint=paint[who],
            night=light.night[at],
            lit=lit,
            tone=lambda colour, emission=0.0, lit=lit: lit(rgb(colour, light.tint), emission),
        )
        colour, alpha = assemble(draw(site), (len(who), SPRITE, SPRITE))
        sprites[who] = torch.cat([colour, alpha], 1).permute(0, 3, 1, 2).reshape(len(who), SPRITE, 4 * SPRITE)
    return sprites
