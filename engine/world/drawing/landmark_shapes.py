"""Drawings of the eight kinds of landmark as stacks of painted shapes.

In px at size 1, x points right from the middle and y up from the foot. A drawing reaches at most 27 px to
each side and 50 px up. Where a landmark stands is unknown here. Shapes: N sprites, R rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from engine.world.drawing.paint import Stroke, box, capsule, circle, ellipse, triangle, union

Paint = Callable[..., Tensor]


@dataclass(frozen=True)
class Site:
    """N landmarks of one kind: coordinates and paints."""

    x: Tensor  # (N, 1, W)
    y: Tensor  # (N, R, 1)
    scale: Tensor  # (N, 1, 1)
    turn: Tensor  # (N, 1, 1) in [0, 1): phase of turning parts
    paint: Tensor  # (N, 3) its own colour, unlit
    night: Tensor  # (N, 1)
    lit: Paint  # (colour (N, 3), emission) -> (N, 3)
    tone: Paint  # (RGB, emission) -> (N, 3)

    def part(
        self, distance: Tensor, colour: Tensor, softness: float = 1.0, opacity: Tensor | float = 1.0
    ) -> Stroke:
        """Distances are given at size 1. Edges are equally sharp on the screen at every size."""
        return Stroke(distance * self.scale, colour, softness, opacity)

    @property
    def own(self) -> Tensor:
        return self.lit(self.paint)

    @property
    def own_shade(self) -> Tensor:
        return self.lit(self.paint * 0.74)

    @property
    def own_light(self) -> Tensor:
        return self.lit(self.paint + (1 - self.paint) * 0.28)

    @property
    def window(self) -> Tensor:
        """Windows: dark glass by day, warm light at night."""
        by_day, by_night = self.tone((0.20, 0.25, 0.36)), self.tone((1.0, 0.82, 0.40), 0.95)
        return by_day + (by_night - by_day) * self.night


def tree(s: Site) -> list[Stroke]:
    trunk = union(
        torch.maximum(s.x.abs() - 2.4 - 8 / (s.y.abs() + 3), (s.y - 9).abs() - 9),
        capsule(s.x, s.y, 0, 13, 7, 21, 1.2),
    )
    crown = union(circle(s.x, s.y - 31, 11), circle(s.x + 9, s.y - 24, 8), circle(s.x - 9, s.y - 25, 8.5))
    light = union(circle(s.x + 3, s.y - 34, 6.5), circle(s.x + 10, s.y - 26, 4.5))
    return [
        s.part(trunk, s.tone((0.40, 0.27, 0.18))),
        s.part(crown, s.own),
        s.part(torch.maximum(crown, s.y - 0.25 * s.x - 23), s.own_shade, 1.5),
        s.part(torch.maximum(crown, light), s.own_light, 2.0),
    ]


def house(s: Site) -> list[Stroke]:
    wall = box(s.x, s.y - 9, 14, 10)
    roof = triangle(s.x, s.y - 17.5, 19, 15)
    chimney = box(s.x - 9, s.y - 28, 2.2, 6)
    panes = union(box(s.x + 7.5, s.y - 10.5, 2.8, 3), box(s.x - 8, s.y - 10.5, 2.8, 3))
    return [
        s.part(chimney, s.tone((0.50, 0.36, 0.32))),
        s.part(wall, s.tone((0.93, 0.88, 0.78))),
        s.part(torch.maximum(wall, s.x - 0 + 6 + 8), s.tone((0.80, 0.73, 0.64))),
        s.part(roof, s.own),
        s.part(torch.maximum(roof, s.y - 19.5), s.own_shade),
        s.part(panes - 0.9, s.tone((0.98, 0.96, 0.92))),
        s.part(panes, s.window),
        s.part(union(box(s.x - 0.2, s.y - 4, 2.8, 6.5, 0.8)), s.own_shade),
    ]


def tower(s: Site) -> list[Stroke]:
    shaft = box(s.x, s.y - 16, 6.5, 18)
    head = box(s.x, s.y - 36, 9, 4)
    teeth = torch.maximum(box(s.x, s.y - 41, 9, 3), -(((s.x + 1.3 + 26) % 5.2) - 2.6).abs() + 1.2)
    slits = union(box(s.x, s.y - 26, 1.4, 3, 1.2), box(s.x, s.y - 15, 1.4, 3, 1.2))
    return [
        s.part(shaft, s.own),
        s.part(torch.maximum(shaft, 2.4 - s.x), s.own_shade),
        s.part(union(head, teeth), s.own_light),
        s.part(torch.maximum(union(head, teeth), 3.4 - s.x), s.own),
        s.part(torch.maximum(head, s.y - 33.4), s.own_shade),
        s.part(slits, s.window),
        s.part(box(s.x, s.y - 2.5, 2.8, 5, 2.4), s.tone((0.28, 0.20, 0.18))),
    ]


def windmill(s: Site) -> list[Stroke]:
    mill = torch.maximum(s.x.abs() - 9 + 0.13 * s.y, (s.y - 15).abs() - 16)
    cap = torch.maximum(ellipse(s.x, s.y - 30, 6.8, 6), 30 - s.y)
    angle = s.turn * (math.pi / 2)
    c, n = torch.cos(angle), torch.sin(angle)
    x, y = s.x, s.y - 31
    u, v = x * c + y * n, y * c - x * n
    spar = union(box(u, v, 18, 0.7), box(u, v, 0.7, 18))
    cloth = union(
        box(u - 11, v - 2, 7, 2), box(u + 11, v + 2, 7, 2), box(u + 2, v - 11, 2, 7), box(u - 2, v + 11, 2, 7)
    )
    return [
        s.part(mill, s.tone((0.92, 0.88, 0.82))),
        s.part(torch.maximum(mill, 2.6 - s.x), s.tone((0.80, 0.75, 0.70))),
        s.part(torch.maximum(mill, (s.y - 7).abs() - 1.6), s.own),
        s.part(cap, s.own_shade),
        s.part(box(s.x, s.y - 19, 1.8, 2.4, 0.8), s.window),
        s.part(box(s.x, s.y - 1.5, 2.4, 4, 1.0), s.tone((0.36, 0.25, 0.20))),
        s.part(cloth, s.own),
        s.part(spar, s.tone((0.30, 0.22, 0.20))),
        s.part(circle(x, y, 1.8), s.own_shade),
    ]


def rock(s: Site) -> list[Stroke]:
    big = torch.maximum(
        torch.maximum(triangle(s.x + 2, s.y + 1, 20, 34), s.y - 22 + 0.25 * s.x), 0.55 * s.x + 0.35 * s.y - 11
    )
    small = torch.maximum(triangle(s.x - 13, s.y + 1, 11, 17), s.y - 9.5 - 0.2 * (s.x - 13))
    lit = torch.maximum(big, 0.9 * s.x + 0.28 * s.y - 0.5)
    return [
        s.part(big, s.own_shade),
        s.part(lit, s.own),
        s.part(torch.maximum(big, 16 - s.y + 0.5 * s.x), s.own_light),
        s.part(small, s.own_shade),
        s.part(torch.maximum(small, 0.9 * (s.x - 13) + 0.2 * s.y - 1), s.own),
    ]


def lamp(s: Site) -> list[Stroke]:
    pole = union(box(s.x, s.y - 17, 1.4, 18), box(s.x, s.y - 1, 4, 2, 1.0), box(s.x, s.y - 34, 3.0, 1.2))
    lantern = torch.maximum(s.x.abs() - 3.2 - 0.22 * (s.y - 35), (s.y - 39).abs() - 4.2)
    hat = triangle(s.x, s.y - 43, 7.0, 5.0)
    x, y = s.x, s.y - 39
    halo = torch.sqrt(x * x + y * y) - 7
    by_day, by_night = s.tone((0.98, 0.95, 0.80)), s.tone((1.0, 0.88, 0.50), 1.0)
    glass = by_day + (by_night - by_day) * s.night
    return [
        s.part(halo, s.tone((1.0, 0.80, 0.40), 0.9), 26.0, 0.55 * s.night[:, :, None]),
        s.part(pole, s.own),
        s.part(torch.maximum(pole, 0.4 - s.x), s.own_shade),
        s.part(lantern, glass),
        s.part(hat, s.own),
        s.part(box(s.x, s.y - 39, 0.6, 4.2), s.own_shade),
    ]


def sign(s: Site) -> list[Stroke]:
    wood = s.tone((0.46, 0.32, 0.20))
    post = box(s.x, s.y - 14, 1.7, 16)
    board = union(
        box(s.x + 1, s.y - 24, 12, 5.4),
        torch.maximum((s.y - 24).abs() * 0.7 + (s.x - 12.5) * 0.72 - 3.9, 10 - s.x),
    )
    text = union(box(s.x + 1.5, s.y - 26, 8, 0.9), box(s.x + 3.5, s.y - 22.4, 6, 0.9))
    return [
        s.part(post, wood),
        s.part(board - 1.1, s.own_shade),
        s.part(board, s.own),
        s.part(torch.maximum(board, 26.6 - s.y), s.own_light),
        s.part(text, s.tone((0.98, 0.97, 0.92)) * 0.35 + s.own_shade * 0.65, 1.0, 0.9),
    ]


def statue(s: Site) -> list[Stroke]:
    base = union(box(s.x, s.y - 2, 10, 3.6), box(s.x, s.y - 7.2, 7.6, 3))
    robe = torch.maximum(s.x.abs() - 6.2 + 0.17 * (s.y - 9), (s.y - 18.5).abs() - 9.5)
    arms = union(capsule(s.x, s.y, -3, 25, -9, 20, 1.5), capsule(s.x, s.y, 3, 25.5, 9.5, 36, 1.5))
    head = circle(s.x, s.y - 31.6, 3.6)
    torch_ = union(capsule(s.x, s.y, 9.8, 36, 10.4, 39, 1.0), ellipse(s.x - 10.6, s.y - 41, 1.6, 2.6))
    figure = union(robe, arms, head)
    return [
        s.part(base, s.tone((0.62, 0.62, 0.64))),
        s.part(torch.maximum(base, 3.0 - s.x), s.tone((0.50, 0.50, 0.54))),
        s.part(torch_, s.tone((1.0, 0.80, 0.36), 0.5)),
        s.part(figure, s.own),
        s.part(torch.maximum(union(robe, head), 1.2 - s.x), s.own_shade),
        s.part(torch.maximum(robe, (s.x + 2.2).abs() - 0.8), s.own_light),
    ]


DRAWINGS: Final = (tree, house, tower, windmill, rock, lamp, sign, statue)
