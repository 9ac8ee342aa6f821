"""Drawings of the six heroes as stacks of painted shapes.

A hero is drawn facing right in its own patch. In px, x points right from its middle and y up from its feet.
All motion is periodic: legs and rolling with the 16 px walked in two latent frames, wings with 4 frames. The
rest of the picture is unknown here. Shapes: N frames, R rows, W columns of the patch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from engine.world.drawing.paint import Stroke, box, capsule, circle, ellipse, triangle, union


@dataclass(frozen=True)
class Pose:
    """One hero kind in N frames: its patch coordinates, phases and paints."""

    x: Tensor  # (N, 1, W) to the right is forwards
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


def eyes(p: Pose, at: tuple[tuple[float, float], ...], size: float = 1.9) -> list[Stroke]:
    """White eyes whose pupils look forwards."""
    parts = []
    for x, y in at:
        parts.append(Stroke(ellipse(p.x - x, p.y - y, size, size * 1.2), p.white))
        parts.append(Stroke(circle(p.x - x - 0.55, p.y - y + 0.1, size * 0.55), p.dark))
    return parts


def outlined(p: Pose, shape: Tensor, colour: Tensor | None = None, width: float = 1.0) -> list[Stroke]:
    return [Stroke(shape - width, p.line), Stroke(shape, p.body if colour is None else colour)]


def ball(p: Pose) -> list[Stroke]:
    radius = 16 * 3 / math.tau  # three panels, so that rolling 16 px maps the ball onto itself
    x, y = p.x, p.y - radius - 0.4
    turn = p.stride * (math.tau / 3)
    panel = torch.cos(3 * (torch.atan2(y, x) + turn)) * torch.sqrt(x * x + y * y) * 0.6
    inside = circle(x, y, radius)
    parts = outlined(p, inside)
    parts.append(Stroke(torch.maximum(inside, -panel - 0.2), p.shade, 1.4))
    parts.append(Stroke(ellipse(x + 2.4, y - 4.2, 2.6, 1.5), p.shine, 1.5))
    return parts + eyes(p, ((0.6, 9.2), (4.8, 9.2)))


def cube(p: Pose) -> list[Stroke]:
    swing = 2.2 * torch.sin(p.stride * math.tau)
    feet = union(
        box(p.x + 3.4 - swing, p.y - 1.2, 2.2, 1.4, 0.8), box(p.x - 3.4 + swing, p.y - 1.2, 2.2, 1.4, 0.8)
    )
    block = box(p.x, p.y - 9.2, 7.4, 7.2, 1.6)
    parts = outlined(p, feet, p.shade) + outlined(p, block)
    parts.append(Stroke(torch.maximum(block, 12.9 - p.y), p.shine, 1.2, 0.75))
    parts.append(Stroke(torch.maximum(block, p.y - 4.0), p.shade, 1.2, 0.8))
    return parts + eyes(p, ((0.6, 9.4), (5.0, 9.4)))


def fox(p: Pose) -> list[Stroke]:
    swing = 2.4 * torch.sin(p.stride * math.tau)
    x, y = p.x, p.y
    # Lower points of a leg swing further. Fore and hind legs cross.
    ahead, behind = x - swing * (4.5 - y) / 4, x + swing * (4.5 - y) / 4
    legs = union(
        capsule(ahead, y, 4.0, 5, 4.0, 1.0, 1.1),
        capsule(behind, y, 2.2, 5, 2.2, 1.0, 1.1),
        capsule(behind, y, -4.0, 5, -4.0, 1.0, 1.1),
        capsule(ahead, y, -5.6, 5, -5.6, 1.0, 1.1),
    )
    c, s = math.cos(0.65), math.sin(0.65)
    tx, ty = x + 11.0, y - 9.5
    tail = ellipse(tx * c - ty * s, tx * s + ty * c, 6.2, 2.9)
    tip = torch.maximum(tail, (tx * c - ty * s) + 3.2)
    trunk = ellipse(x + 0.6, y - 6.6, 7.2, 3.7)
    head = union(ellipse(x - 7.2, y - 11.2, 4.6, 4.0), capsule(x, y, 9.0, 10.2, 12.6, 9.5, 1.2))
    ears = union(
        triangle(x - 4.6 + (y - 13.0) * 0.25, y - 13.0, 2.1, 5.6),
        triangle(x - 8.8 - (y - 13.0) * 0.1, y - 13.0, 2.1, 5.6),
    )
    figure = union(legs, tail, trunk, head, ears)
    parts = [
        Stroke(figure - 1.0, p.line),
        Stroke(union(tail, trunk, head, ears), p.body),
        Stroke(legs, p.shade),
        Stroke(trunk, p.body),
    ]
    parts.append(Stroke(tip, p.white))
    parts.append(Stroke(torch.maximum(head, 0.30 * (x - 7) + y - 9.6), p.white))
    parts.append(Stroke(circle(x - 13.0, y - 10.0, 1.1), p.dark))
    parts.append(Stroke(ellipse(x - 8.0, y - 12.0, 1.0, 1.4), p.dark))
    return parts


def robot(p: Pose) -> list[Stroke]:
    swing = 2.0 * torch.sin(p.stride * math.tau)
    x, y = p.x, p.y
    legs = union(box(x + 2.8 - swing, y - 2.0, 1.6, 2.4), box(x - 2.8 + swing, y - 2.0, 1.6, 2.4))
    trunk = box(x, y - 7.4, 5.0, 3.6, 0.8)
    arms = union(capsule(x, y, -6.4, 9.6, -6.4 - 0.8, 5.6, 1.1), capsule(x, y, 6.4, 9.6, 6.4 + 0.8, 5.6, 1.1))
    head = box(x - 0.6, y - 15.0, 6.2, 4.2, 1.4)
    antenna = union(capsule(x, y, 0.6, 19, 0.6, 21.5, 0.6), circle(x - 0.6, y - 22.2, 1.5))
    parts = [
        Stroke(union(legs, trunk, arms, head, antenna) - 1.0, p.line),
        Stroke(union(legs, arms), p.steel),
    ]
    parts += [Stroke(trunk, p.body), Stroke(head, p.body), Stroke(antenna, p.amber)]
    parts.append(Stroke(box(x, y - 7.0, 2.4, 1.6), p.steel))
    parts.append(Stroke(box(x - 1.8, y - 15.0, 4.6, 2.2, 1.0), p.dark))
    parts += [
        Stroke(circle(x - 0.2, y - 15.0, 1.1), p.amber),
        Stroke(circle(x - 4.2, y - 15.0, 1.1), p.amber),
    ]
    return parts


def bird(p: Pose) -> list[Stroke]:
    x, y = p.x, p.y - 12.0  # flies a little above the ground
    body = ellipse(x, y, 7.2, 5.0)
    head = circle(x - 5.6, y - 3.6, 3.8)
    tail = union(capsule(x, y, -6, 0.5, -11.0, 2.6, 1.5), capsule(x, y, -6, 0, -11.0, -0.8, 1.4))
    beak = torch.maximum((y - 3.2).abs() * 0.9 + (x - 9.0) * 0.42 - 1.9, 8.4 - x)
    lift = torch.cos(p.flap * math.tau)  # 1 up, -1 down
    wx, wy = x + 1.6, y - 1.4
    wing = ellipse(wx + 0.45 * wy * lift, wy - 4.2 * lift, 3.6, 1.6 + 4.6 * lift.abs())
    parts = [
        Stroke(union(body, head, tail, beak, wing) - 1.0, p.line),
        Stroke(tail, p.shade),
        Stroke(body, p.body),
        Stroke(head, p.body),
    ]
    parts.append(Stroke(torch.maximum(body, y + 1.6), p.shine, 1.2, 0.7))
    parts.append(Stroke(beak, p.amber))
    parts.append(Stroke(wing, p.shade))
    return parts + eyes(p, ((6.3, 16.4),), 1.6)


def balloon(p: Pose) -> list[Stroke]:
    x, y = p.x, p.y - 16.4
    # The shape of an egg on its tip, narrower below.
    bulb = ellipse(x / (1 + 0.035 * y.clamp(-9, 9)), y, 7.2, 8.4)
    knot = triangle(x, y + 10.4, 2.0, 2.8)
    wiggle = 0.9 * torch.sin(y * 0.9)
    string = torch.maximum((x - wiggle).abs() - 0.45, (p.y - 3.2).abs() - 3.2)
    parts = [
        Stroke(string - 0.6, p.line, 1.0, 0.6),
        Stroke(string, p.white),
        *outlined(p, union(bulb, knot)),
    ]
    parts.append(Stroke(torch.maximum(bulb, -ellipse(x - 1.6, y - 1.6, 7.4, 8.4)), p.shade, 1.6, 0.8))
    parts.append(Stroke(ellipse(x + 2.6, y - 4.4, 1.5, 2.4), p.shine, 1.5))
    return parts + eyes(p, ((1.4, 16.4), (4.9, 16.4)), 1.7)


DRAWINGS: Final[tuple[Callable[[Pose], list[Stroke]], ...]] = (ball, cube, fox, robot, bird, balloon)
