"""Row behind row of firs, dark and mossy."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.world.drawing.light import Climate
from engine.world.drawing.noise import cells, hash01, ridge
from engine.world.drawing.scene import FAR, GROUND_ROWS, MIDDLE, NEAR, Scene

CLIMATE = Climate(top=(0.36, 0.62, 0.62), low=(0.86, 0.95, 0.80), own=0.22)


def firs(x: Tensor, spacing: float, low: float, high: float, seed: Tensor, salt: int) -> Tensor:
    """Height of a row of firs above its ground: two staggered lines of tiered triangles."""
    height = torch.zeros_like(x)
    for row, shift in enumerate((0.0, spacing * 0.5)):
        where = cells(x + shift, spacing, seed, salt + 2 * row, jitter=spacing * 0.08)
        tall = low + (high - low) * hash01(seed, where.number, salt + 2 * row + 1)
        inside = (1 - where.local.abs() / (spacing * 0.5)).clamp(min=0)
        tiers = torch.ceil(inside * 4) / 4 * (inside > 0)
        height = torch.maximum(height, tall * (0.62 * inside + 0.38 * tiers))
    return height


def paint(scene: Scene) -> None:
    light, seed = scene.light, scene.seed
    far, mid = scene.x(FAR), scene.x(MIDDLE)
    scene.hill(50 - 7 * ridge(far, 90, seed, 71, octaves=2), light.hazy((0.50, 0.68, 0.66), 0.35),
               light.hazy((0.66, 0.80, 0.74), 0.45), slice(32, 82))  # fmt: skip
    scene.hill(62 - firs(far, 14, 12, 27, seed, 74), light.hazy((0.32, 0.56, 0.50), 0.18),
               light.hazy((0.52, 0.72, 0.62), 0.30), slice(30, 84))  # fmt: skip
    scene.veil(0.62)
    scene.hill(73 - firs(mid, 20, 16, 38, seed, 84), light.hazy((0.13, 0.40, 0.28), 0.03),
               light.hazy((0.06, 0.24, 0.18), 0.05), slice(30, 86))  # fmt: skip
    scene.veil(0.42)
    moss = 1.2 * ridge(scene.x(NEAR), 7, seed, 94, octaves=1)
    scene.floor((0.34, 0.46, 0.17), (0.15, 0.18, 0.09), edge=moss + 0.8)
    leaf, _ = scene.spots(16, 96, depth=8, rx=3.6, ry=1.4, jitter=4)
    scene.blend(leaf * 0.85, light.lit((0.66, 0.40, 0.14)), GROUND_ROWS)
    fern, _ = scene.spots(32, 100, depth=12, rx=8, ry=2.2, jitter=6)
    scene.blend(fern * 0.5, light.lit((0.10, 0.24, 0.10)), GROUND_ROWS)
    scene.veil(0.12)
