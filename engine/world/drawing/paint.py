"""Brushes: anti-aliased coverage from signed distances, and blending into a batch of pictures.

Distances are in pixels and negative inside. Places, heroes and landmarks are unknown here.

Shapes: N frames, R rows, W columns; a mask is (N, R, W), a colour (N, 3) or (N, 3, R, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

RGB = tuple[float, float, float]


def rgb(colour: RGB, like: Tensor) -> Tensor:
    """A colour as a (1, 3) row on the device of `like`."""
    return torch.tensor([colour], device=like.device, dtype=torch.float32)


def mix(a: Tensor, b: Tensor, amount: Tensor | float) -> Tensor:
    if isinstance(amount, float):
        return torch.lerp(a, b, amount)
    return a + (b - a) * amount


def cover(distance: Tensor, softness: float = 1.0) -> Tensor:
    """The share of a pixel inside the shape, for an edge `softness` px wide."""
    return (0.5 - distance / softness).clamp(0, 1)


def below(top: Tensor, rows: Tensor, *, crisp: bool = False) -> Tensor:
    """Coverage of the area under a profile: top (N, W) in screen rows, rows (R,) -> (N, R, W).

    On slopes the vertical distance is shortened, so that steep edges are as sharp as flat ones. `crisp`
    profiles have vertical walls on pixel boundaries and do not need this.
    """
    distance = rows[:, None] - top[:, None, :]
    if not crisp:
        slope = torch.zeros_like(top)
        slope[:, 1:-1] = (top[:, 2:] - top[:, :-2]) / 2
        distance = distance * torch.rsqrt(1 + slope * slope)[:, None, :]
    return distance.add_(0.5).clamp_(0, 1)


def blend(image: Tensor, mask: Tensor, colour: Tensor) -> None:
    """Blend a colour into image (N, 3, R, W) in place, by mask (N, R, W)."""
    end = colour if colour.dim() == 4 else colour[:, :, None, None]
    image.lerp_(end.expand_as(image), mask[:, None].expand_as(image))


def length(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)


def circle(x: Tensor, y: Tensor, radius: float | Tensor) -> Tensor:
    return length(x, y) - radius


def ellipse(x: Tensor, y: Tensor, rx: float | Tensor, ry: float | Tensor) -> Tensor:
    """First-order distance. It is exact on the edge, and coverage needs no more."""
    k0 = length(x / rx, y / ry)
    k1 = length(x / (rx * rx), y / (ry * ry)) + 1e-6
    return k0 * (k0 - 1) / k1


def box(
    x: Tensor, y: Tensor, half_width: float | Tensor, half_height: float | Tensor, round_: float = 0.0
) -> Tensor:
    dx, dy = x.abs() - half_width + round_, y.abs() - half_height + round_
    if not round_:
        return torch.maximum(dx, dy)
    return length(dx.clamp(min=0), dy.clamp(min=0)) + torch.maximum(dx, dy).clamp(max=0) - round_


def capsule(x: Tensor, y: Tensor, ax: float, ay: float, bx: float, by: float, radius: float) -> Tensor:
    """A thick line from (ax, ay) to (bx, by)."""
    dx, dy = bx - ax, by - ay
    t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return length(x - ax - t * dx, y - ay - t * dy) - radius


def triangle(x: Tensor, y: Tensor, half_width: float | Tensor, height: float | Tensor) -> Tensor:
    """An isosceles triangle with its base on y = 0 and its tip at y = height."""
    hypotenuse = (half_width * half_width + height * height) ** 0.5
    side = (x.abs() * height + y * half_width - half_width * height) / hypotenuse
    return torch.maximum(side, -y)


def union(*shapes: Tensor) -> Tensor:
    result = shapes[0]
    for shape in shapes[1:]:
        result = torch.minimum(result, shape)
    return result


class Stroke(NamedTuple):
    """One painted piece of a sprite."""

    distance: Tensor  # broadcasts to (N, R, W)
    colour: Tensor  # (N, 3)
    softness: float = 1.0
    opacity: Tensor | float = 1.0  # (N, 1, 1)


def assemble(parts: Sequence[Stroke], shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Stack parts from the lowest to the highest -> premultiplied colour (N, 3, R, W), alpha (N, 1, R, W)."""
    n, rows, columns = shape
    colour = torch.zeros(n, 3, rows, columns, device=parts[0].distance.device)
    alpha = torch.zeros(n, 1, rows, columns, device=parts[0].distance.device)
    for part in parts:
        mask = (cover(part.distance, part.softness) * part.opacity).expand(n, rows, columns)[:, None]
        colour.lerp_(part.colour[:, :, None, None].expand_as(colour), mask.expand_as(colour))
        alpha.lerp_(torch.ones_like(alpha), mask)
    return colour, alpha


def over(image: Tensor, colour: Tensor, alpha: Tensor) -> None:
    """Blend a premultiplied sprite over image (N, 3, R, W) in place."""
    image.mul_(1 - alpha).add_(colour)
