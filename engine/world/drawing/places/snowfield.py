"""Sharp peaks with white caps, drifts, small firs under snow."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.world.drawing.light import Climate
from engine.world.drawing.noise import cells, hash01, ridge, wave
from engine.world.drawing.paint import below, cover, triangle
from engine.world.drawing.scene import FAR, GROUND_ROWS, MIDDLE, Scene

CLIMATE = Climate(top=(0.44, 0.68, 0.93), low=(0.91, 0.96, 1.0))
PEAKS = slice(20, 84)
FIR_ROWS = slice(48, 76)


def peaks(x: Tensor, seed: Tensor) -> Tensor:
    """Height of a range of sharp mountains: two staggered rows of triangles."""
    height = torch.zeros_like(x)
    for row, shift in enumerate((0.0, 27.0)):
        where = cells(x + shift, 54, seed, 133 + 2 * row, jitter=7)
        tall = 17 + 19 * hash01(seed, where.number, 134 + 2 * row)
        height = torch.maximum(height, tall - where.local.abs() * 0.95)
    return height


def paint(scene: Scene) -> None:
    light, seed = scene.light, scene.seed
    far, mid = scene.x(FAR), scene.x(MIDDLE)
    top = 58 - peaks(far, seed) - 2.0 * ridge(far, 9, seed, 143, octaves=2, smooth=False)
    scene.hill(top, light.hazy((0.50, 0.60, 0.80), 0.15), light.hazy((0.76, 0.84, 0.95), 0.30), PEAKS)
    # The cap ends in a ragged line, lower where the mountain is high.
    snow_line = 45 + 3.5 * wave(far, 5, seed, 146, smooth=False)
    cap = below(top, scene.y(PEAKS)) * cover((scene.y(PEAKS)[None, :, None] - snow_line[:, None]) / 1.2)
    scene.blend(cap, light.hazy((1.0, 1.0, 1.0), 0.08), PEAKS)
    scene.veil(0.62)

    drift = 66 - 5 * ridge(mid, 90, seed, 148, octaves=2)
    scene.hill(
        drift, light.hazy((0.93, 0.96, 1.0), 0.05), light.hazy((0.70, 0.80, 0.94), 0.10), slice(54, 84)
    )
    where = cells(mid, 30, seed, 151, jitter=8)
    size = 0.75 + 0.5 * hash01(seed, where.number, 152)[:, None]
    x = where.local[:, None] / size
    y = (71 - scene.y(FIR_ROWS)[:, None]) / size
    there = (hash01(seed, where.number, 153) < 0.7)[:, None]
    for base, width in ((2.0, 6.0), (7.0, 4.6), (12.0, 3.2)):
        scene.blend(
            cover(triangle(x, y - base, width, 8.0) * size) * there,
            light.hazy((0.28, 0.46, 0.46), 0.1),
            FIR_ROWS,
        )
        scene.blend(
            cover(triangle(x, y - base - 3.6, width * 0.55, 4.4) * size) * there,
            light.hazy((0.97, 0.99, 1.0), 0.05),
            FIR_ROWS,
        )
    scene.veil(0.42)

    scene.floor((0.98, 0.99, 1.0), (0.66, 0.78, 0.93))
    dent, _ = scene.spots(16, 156, depth=8, rx=6.0, ry=1.5, jitter=4)
    scene.blend(dent * 0.55, light.lit((0.68, 0.80, 0.95)), GROUND_ROWS)
    mound, _ = scene.spots(32, 160, depth=14, rx=9.0, ry=2.0, jitter=6)
    scene.blend(mound * 0.6, light.lit((0.95, 0.98, 1.0)), GROUND_ROWS)
    scene.veil(0.12)
