"""The sky: gradient, stars, sun or moon with its glow, and clouds. All but the clouds is fixed to the screen.

The place is unknown here. Shapes: N frames, R rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.world.attributes import WIDTH
from engine.world.drawing.noise import cells, hash01
from engine.world.drawing.paint import circle, cover, mix, rgb
from engine.world.drawing.scene import FAR, Scene

SKY = slice(0, 80)
HORIZON = 66.0
CLOUD_ROWS = slice(4, 44)


def starfield(device: torch.device) -> Tensor:
    """Brightness of the stars (80, W): about one pixel in 90 is one. All seeds share this sky."""
    rows = torch.arange(SKY.stop, device=device)[:, None]
    columns = torch.arange(WIDTH, device=device)[None, :]
    chance = hash01(columns, rows, 501)
    size = hash01(columns, rows, 502)
    return torch.where(chance < 0.011, 0.35 + 0.65 * size * size, 0.0) * (1 - rows / 90)


def paint_sky(scene: Scene) -> None:
    light = scene.light
    rows = scene.y(SKY)
    share = (rows / HORIZON).clamp(0, 1)
    # Three stops. The middle colour lies a little below half way, where a low sun colours the air.
    first = (share / 0.58).clamp(0, 1)[None, None, :]
    second = ((share - 0.58) / 0.42).clamp(0, 1)[None, None, :]
    column = mix(mix(light.top[:, :, None], light.middle[:, :, None], first), light.low[:, :, None], second)
    scene.image[:, :, SKY] = column[..., None]
    scene.image[:, :, SKY.stop :] = 0
    if bool((light.stars > 0).any()):
        mask = starfield(scene.camera.device)[None] * light.stars[:, :, None]
        scene.blend(mask, rgb((1.0, 0.98, 0.92), scene.camera).expand_as(light.tint), SKY)
    paint_sun(scene)


def paint_sun(scene: Scene) -> None:
    light = scene.light
    columns = torch.arange(WIDTH, device=scene.camera.device, dtype=torch.float32)
    x = columns[None, None, :] - light.sun_place[:, 0, None, None]
    y = scene.y(SKY)[None, :, None] - light.sun_place[:, 1, None, None]
    # The glow is wide and flat. As a product of two profiles it is cheap to compute.
    near = torch.exp(-(x * x) / 700) * torch.exp(-(y * y) / 500)
    wide = torch.exp(-(x * x) / 5200) * torch.exp(-(y * y) / 900)
    glow = (0.65 * near + 0.45 * wide) * light.glow[:, :, None]
    scene.blend(glow, light.sun, SKY)
    radius = light.sun_place[:, 2, None, None]
    disc = cover(circle(x, y, radius))
    # At night part of the disc is cut away: it is the moon.
    bite = cover(circle(x - 4.0, y + 2.5, radius * 0.85)) * light.night[:, :, None]
    scene.blend(
        disc * (1 - 0.85 * bite) * light.sun_alpha[:, :, None],
        mix(light.sun, torch.ones_like(light.sun), 0.25),
        SKY,
    )


def paint_clouds(scene: Scene, *, amount: float = 0.85, spacing: float = 74.0) -> None:
    """Clouds with flat bottoms, in the far layer."""
    seed = scene.seed
    where = cells(scene.x(FAR), spacing, seed, 31, jitter=8)
    size = 0.75 + 0.5 * hash01(seed, where.number, 32)
    base = (16 + 16 * hash01(seed, where.number, 33)).round() + 6
    heap = torch.zeros_like(base)
    for offset, reach in ((-11.0, 7.0), (0.0, 11.0), (11.0, 8.0), (-19.0, 4.0), (19.0, 4.5)):
        u = where.local - offset * size
        r = reach * size
        heap = torch.maximum(heap, (r * r - u * u).clamp(min=0).sqrt())
    y = scene.y(CLOUD_ROWS)[None, :, None]
    top = (base - heap)[:, None]
    mask = (
        (y - top + 0.5).clamp(0, 1) * (base[:, None] - y + 0.5).clamp(0, 1) * (heap[:, None] / 2).clamp(0, 1)
    )
    light = scene.light
    lit = mix(light.lit((1.0, 1.0, 1.0)), light.low, 0.30)
    shade = mix(lit, light.middle, 0.45)
    depth = ((y - top) / (heap[:, None] + 1)).clamp(0, 1)
    scene.blend(mask * amount, lit, CLOUD_ROWS)
    scene.blend(mask * amount * depth * 0.7, shade, CLOUD_ROWS)
