"""Paints heroes into the picture: their patch, shadow and colours, and the dissolve from one into another.

The drawings are in `hero_shapes`.
Shapes: N frames, R = 60 rows, W = 36 columns of patch.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from engine.world.attributes import HERO_X
from engine.world.drawing.hero_shapes import DRAWINGS, Pose
from engine.world.drawing.light import Light
from engine.world.drawing.paint import assemble, blend, cover, ellipse, mix, over, rgb

ROWS = slice(28, 88)
COLUMNS = slice(HERO_X - 18, HERO_X + 18)

HOVER: Final = (0.0, 0.0, 0.0, 0.0, 7.0, 4.0)  # px above the ground, for the shadow

# In the order of COLOURS.
PALETTE: Final = (
    (0.90, 0.13, 0.16), (1.00, 0.52, 0.06), (1.00, 0.88, 0.14), (0.14, 0.70, 0.26),
    (0.14, 0.38, 0.98), (0.60, 0.22, 0.86), (0.98, 0.98, 1.00), (0.11, 0.11, 0.14),
)  # fmt: skip


def paint_heroes(
    image: Tensor, light: Light, ground: Tensor, camera: Tensor, jump: Tensor, facing: Tensor, clock: Tensor,
    hero: Tensor, colour: Tensor,
) -> None:  # fmt: skip
    """Put heroes into image (N, 3, 96, 160) in place; `ground` (N,) is the screen row under their feet."""
    n = image.shape[0]
    patch = image[:, :, ROWS, COLUMNS]
    rows = torch.arange(ROWS.start, ROWS.stop, device=image.device, dtype=torch.float32)
    columns = torch.arange(COLUMNS.start, COLUMNS.stop, device=image.device, dtype=torch.float32) - HERO_X
    y = (ground - jump)[:, None, None] - rows[None, :, None]  # (N, R, 1)
    x = columns[None, None, :] * facing[:, None, None]  # (N, 1, W)

    height = (jump + (hero * torch.tensor(HOVER, device=image.device)).sum(1))[:, None, None]
    shadow = ellipse(
        columns[None, None, :], rows[None, :, None] - ground[:, None, None] - 1.2, 9 - height * 0.12, 1.7
    )
    blend(patch, cover(shadow, 2.0) * (0.42 - 0.011 * height), light.tint * rgb((0.08, 0.08, 0.12), image))

    # Heroes are dimmed little and hardly tinted, so that orange is still orange at dusk.
    dim = 0.62 + 0.38 * mix(light.tint.mean(1, keepdim=True).expand(-1, 3), light.tint, 0.25)
    body = (colour[:, :, None] * torch.tensor(PALETTE, device=image.device)[None]).sum(1)
    blackness = colour[:, 7:8]
    line = mix(rgb((0.09, 0.07, 0.12), image), rgb((0.88, 0.88, 0.94), image), blackness)
    white = rgb((1.0, 1.0, 1.0), image)
    shades = {
        "body": body,
        "shade": mix(body * 0.74, white, 0.10 * blackness),
        "shine": mix(body, white, 0.38 - 0.16 * blackness),
        "line": line,
        "dark": rgb((0.06, 0.06, 0.10), image).expand(n, 3),
        "white": white.expand(n, 3),
        "amber": rgb((1.0, 0.72, 0.16), image).expand(n, 3),
        "steel": rgb((0.62, 0.66, 0.72), image).expand(n, 3),
    }
    paints = {name: mix(value * dim, light.mist, 0.15 * light.fog) for name, value in shades.items()}
    stride = ((camera * facing % 16) / 16)[:, None, None]
    flap = (clock % 4).float()[:, None, None] / 4

    sprite = torch.zeros_like(patch)
    alpha = torch.zeros_like(patch[:, :1])
    for kind, draw in enumerate(DRAWINGS):
        who = hero[:, kind].nonzero()[:, 0]
        if not len(who):
            continue
        pose = Pose(
            x[who], y[who], stride[who], flap[who], **{name: value[who] for name, value in paints.items()}
        )
        part_colour, part_alpha = assemble(draw(pose), (len(who), len(rows), len(columns)))
        share = hero[who, kind][:, None, None, None]
        sprite.index_add_(0, who, part_colour * share)
        alpha.index_add_(0, who, part_alpha * share)
    over(patch, sprite, alpha)
