"""The six heroes: who they are as stacks of painted shapes, and how they are put into the picture.

A hero is drawn facing right in its own patch, x to the right of its middle and y up from its feet, in px. What
moves is periodic: legs and rolling in the 16 px of a latent frame's walk, wings in its 4 frames.

Shapes: N frames, R = 60 rows, W = 36 columns of patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Final

import torch
from torch import Tensor

from engine.world.attributes import HERO_X
from engine.world.light import Light
from engine.world.paint import Part, assemble, blend, box, capsule, circle, cover, ellipse, mix, over, rgb, triangle, union

ROWS = slice(28, 88)
COLUMNS = slice(HERO_X - 18, HERO_X + 18)

# In the order of COLOURS.
PALETTE: Final = (
    (0.90, 0.13, 0.16), (1.00, 0.52, 0.06), (1.00, 0.88, 0.14), (0.14, 0.70, 0.26),
    (0.14, 0.38, 0.98), (0.60, 0.22, 0.86), (0.98, 0.98, 1.00), (0.11, 0.11, 0.14),
)  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """One hero kind in N frames: its patch coordinates, phases and paints."""

    x: Tensor  # (N, 1, W) right is forwards
    y: Tensor  # (N, R, 1)
    stride: Tensor  # (N, 1, 1) in [0, 1): phase of the walk
    flap: Tensor  # (N, 1, 1) in [0, 1): phase of the wings
    body: Tensor  # (N, 3)
    shade: Tensor
    shine: Tensor
    line: Tensor  # contrasts with the body
    dark: Tensor
    white: Tensor
    amber: Tensor
    steel: Tensor


def eyes(p: Pose, at: tuple[tuple[float, float], ...], size: float = 1.9) -> list[Part]:
    """White eyes with pupils that look where the hero goes."""
    parts = []
    for x, y in at:
        parts.append(Part(ellipse(p.x - x, p.y - y, size, size * 1.2), p.white))
        parts.append(Part(circle(p.x - x - 0.55, p.y - y + 0.1, size * 0.55), p.dark))
    return parts


def outlined(p: Pose, shape: Tensor, colour: Tensor | None = None, width: float = 1.0) -> list[Part]:
    return [Part(shape - width, p.line), Part(shape, p.body if colour is None else colour)]


def ball(p: Pose) -> list[Part]:
    radius = 16 * 3 / math.tau  # three panels: one latent frame of rolling maps the ball onto itself
    x, y = p.x, p.y - radius - 0.4
    turn = p.stride * (math.tau / 3)
    panel = torch.cos(3 * (torch.atan2(y, x) + turn)) * torch.sqrt(x * x + y * y) * 0.6
    inside = circle(x, y, radius)
    parts = outlined(p, inside)
    parts.append(Part(torch.maximum(inside, -panel - 0.2), p.shade, 1.4))
    parts.append(Part(ellipse(x + 2.4, y - 4.2, 2.6, 1.5), p.shine, 1.5))
    return parts + eyes(p, ((0.6, 9.2), (4.8, 9.2)))


def cube(p: Pose) -> list[Part]:
    swing = 2.2 * torch.sin(p.stride * math.tau)
    feet = union(box(p.x + 3.4 - swing, p.y - 1.2, 2.2, 1.4, 0.8), box(p.x - 3.4 + swing, p.y - 1.2, 2.2, 1.4, 0.8))
    block = box(p.x, p.y - 9.2, 7.4, 7.2, 1.6)
    parts = outlined(p, feet, p.shade) + outlined(p, block)
    parts.append(Part(torch.maximum(block, 12.9 - p.y), p.shine, 1.2, 0.75))
    parts.append(Part(torch.maximum(block, p.y - 4.0), p.shade, 1.2, 0.8))
    return parts + eyes(p, ((0.6, 9.4), (5.0, 9.4)))


def fox(p: Pose) -> list[Part]:
    swing = 2.4 * torch.sin(p.stride * math.tau)
    x, y = p.x, p.y
    legs = union(
        capsule(x - swing * (4.5 - y) / 4, y, 4.0, 5, 4.0, 1.0, 1.1), capsule(x + swing * (4.5 - y) / 4, y, 2.2, 5, 2.2, 1.0, 1.1),
        capsule(x + swing * (4.5 - y) / 4, y, -4.0, 5, -4.0, 1.0, 1.1), capsule(x - swing * (4.5 - y) / 4, y, -5.6, 5, -5.6, 1.0, 1.1),
    )  # fmt: skip
    c, s = math.cos(0.65), math.sin(0.65)
    tx, ty = x + 11.0, y - 9.5
    tail = ellipse(tx * c - ty * s, tx * s + ty * c, 6.2, 2.9)
    tip = torch.maximum(tail, (tx * c - ty * s) + 3.2)
    trunk = ellipse(x + 0.6, y - 6.6, 7.2, 3.7)
    head = union(ellipse(x - 7.2, y - 11.2, 4.6, 4.0), capsule(x, y, 9.0, 10.2, 12.6, 9.5, 1.2))
    ears = union(triangle(x - 4.6 + (y - 13.0) * 0.25, y - 13.0, 2.1, 5.6), triangle(x - 8.8 - (y - 13.0) * 0.1, y - 13.0, 2.1, 5.6))
    figure = union(legs, tail, trunk, head, ears)
    parts = [Part(figure - 1.0, p.line), Part(union(tail, trunk, head, ears), p.body), Part(legs, p.shade), Part(trunk, p.body)]
    parts.append(Part(tip, p.white))
    parts.append(Part(torch.maximum(head, 0.30 * (x - 7) + y - 9.6), p.white))
    parts.append(Part(circle(x - 13.0, y - 10.0, 1.1), p.dark))
    parts.append(Part(ellipse(x - 8.0, y - 12.0, 1.0, 1.4), p.dark))
    return parts


def robot(p: Pose) -> list[Part]:
    swing = 2.0 * torch.sin(p.stride * math.tau)
    x, y = p.x, p.y
    legs = union(box(x + 2.8 - swing, y - 2.0, 1.6, 2.4), box(x - 2.8 + swing, y - 2.0, 1.6, 2.4))
    trunk = box(x, y - 7.4, 5.0, 3.6, 0.8)
    arms = union(capsule(x, y, -6.4, 9.6, -6.4 - 0.8, 5.6, 1.1), capsule(x, y, 6.4, 9.6, 6.4 + 0.8, 5.6, 1.1))
    head = box(x - 0.6, y - 15.0, 6.2, 4.2, 1.4)
    antenna = union(capsule(x, y, 0.6, 19, 0.6, 21.5, 0.6), circle(x - 0.6, y - 22.2, 1.5))
    parts = [Part(union(legs, trunk, arms, head, antenna) - 1.0, p.line), Part(union(legs, arms), p.steel)]
    parts += [Part(trunk, p.body), Part(head, p.body), Part(antenna, p.amber)]
    parts.append(Part(box(x, y - 7.0, 2.4, 1.6), p.steel))
    parts.append(Part(box(x - 1.8, y - 15.0, 4.6, 2.2, 1.0), p.dark))
    parts += [Part(circle(x - 0.2, y - 15.0, 1.1), p.amber), Part(circle(x - 4.2, y - 15.0, 1.1), p.amber)]
    return parts


def bird(p: Pose) -> list[Part]:
    x, y = p.x, p.y - 12.0  # flies a little above the ground
    body = ellipse(x, y, 7.2, 5.0)
    head = circle(x - 5.6, y - 3.6, 3.8)
    tail = union(capsule(x, y, -6, 0.5, -11.0, 2.6, 1.5), capsule(x, y, -6, 0, -11.0, -0.8, 1.4))
    beak = torch.maximum((y - 3.2).abs() * 0.9 + (x - 9.0) * 0.42 - 1.9, 8.4 - x)
    lift = torch.cos(p.flap * math.tau)  # 1 up, -1 down
    wx, wy = x + 1.6, y - 1.4
    wing = ellipse(wx + 0.45 * wy * lift, wy - 4.2 * lift, 3.6, 1.6 + 4.6 * lift.abs())
    parts = [Part(union(body, head, tail, beak, wing) - 1.0, p.line), Part(tail, p.shade), Part(body, p.body), Part(head, p.body)]
    parts.append(Part(torch.maximum(body, y + 1.6), p.shine, 1.2, 0.7))
    parts.append(Part(beak, p.amber))
    parts.append(Part(wing, p.shade))
    return parts + eyes(p, ((6.3, 16.4),), 1.6)


def balloon(p: Pose) -> list[Part]:
    x, y = p.x, p.y - 16.4
    # An egg on its tip: narrower below.
    bulb = ellipse(x / (1 + 0.035 * y.clamp(-9, 9)), y, 7.2, 8.4)
    knot = triangle(x, y + 10.4, 2.0, 2.8)
    wiggle = 0.9 * torch.sin(y * 0.9)
    string = torch.maximum((x - wiggle).abs() - 0.45, (p.y - 3.2).abs() - 3.2)
    parts = [Part(string - 0.6, p.line, 1.0, 0.6), Part(string, p.white), *outlined(p, union(bulb, knot))]
    parts.append(Part(torch.maximum(bulb, -ellipse(x - 1.6, y - 1.6, 7.4, 8.4)), p.shade, 1.6, 0.8))
    parts.append(Part(ellipse(x + 2.6, y - 4.4, 1.5, 2.4), p.shine, 1.5))
    return parts + eyes(p, ((1.4, 16.4), (4.9, 16.4)), 1.7)


DRAWINGS: Final[tuple[Callable[[Pose], list[Part]], ...]] = (ball, cube, fox, robot, bird, balloon)
HOVER: Final = (0.0, 0.0, 0.0, 0.0, 7.0, 4.0)  # how far off the ground, for the shadow


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
    shadow = ellipse(columns[None, None, :], rows[None, :, None] - ground[:, None, None] - 1.2, 9 - height * 0.12, 1.7)
    blend(patch, cover(shadow, 2.0) * (0.42 - 0.011 * height), light.tint * rgb((0.08, 0.08, 0.12), image))

    # Heroes are dimmed mildly and almost without tint, so that orange is orange at dusk, too.
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
        pose = Pose(x[who], y[who], stride[who], flap[who], **{name: value[who] for name, value in paints.items()})
        part_colour, part_alpha = assemble(draw(pose), (len(who), len(rows), len(columns)))
        share = hero[who, kind][:, None, None, None]
        sprite.index_add_(0, who, part_colour * share)
        alpha.index_add_(0, who, part_alpha * share)
    over(patch, sprite, alpha)
