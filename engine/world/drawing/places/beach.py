"""Turquoise sea to the horizon, islands, palms, pale sand with a foam line."""

from __future__ import annotations

import torch

from engine.world.drawing.light import Climate
from engine.world.drawing.noise import cells, hash01, pick, wave
from engine.world.drawing.paint import capsule, cover, ellipse, union
from engine.world.drawing.scene import FAR, GROUND_ROWS, MIDDLE, NEAR, Scene
from engine.world.drawing.sky import paint_clouds

CLIMATE = Climate(top=(0.12, 0.55, 0.95), low=(0.76, 0.95, 0.98))
SEA = slice(54, 84)
PALM_ROWS = slice(36, 82)


def paint(scene: Scene) -> None:
    light, seed = scene.light, scene.seed
    far, mid = scene.x(FAR), scene.x(MIDDLE)
    paint_clouds(scene, spacing=82)
    island = cells(far, 96, seed, 171, jitter=18)
    reach = 16 + 12 * hash01(seed, island.number, 172)
    hump = (1 - (island.local / reach) ** 2).clamp(min=0) * (5 + 6 * hash01(seed, island.number, 173))
    scene.hill(
        56.5 - hump, light.hazy((0.30, 0.58, 0.52), 0.28), light.hazy((0.40, 0.66, 0.60), 0.28), slice(42, 58)
    )

    y = scene.y(SEA)
    sea = scene.gradient(
        light.hazy((0.04, 0.42, 0.72), 0.12), light.hazy((0.22, 0.80, 0.80), 0.05), SEA, 56, 76
    )
    scene.blend(cover(56 - y)[None, :, None].expand(len(mid), -1, mid.shape[1]), sea, SEA)
    for row, period, drift in ((59, 16, FAR), (63, 22, MIDDLE), (68, 30, MIDDLE)):
        swell = wave(scene.x(drift), period, seed, 176 + row)
        mask = cover((y - row)[None, :, None].abs() - 1.6 * swell[:, None].clamp(min=0))
        scene.blend(mask * (swell[:, None] > 0) * 0.55, light.hazy((0.80, 0.97, 0.97), 0.25), SEA)
    # The low sun lies on the water.
    columns = torch.arange(mid.shape[1], device=mid.device, dtype=torch.float32)
    path = torch.exp(-((columns - light.sun_place[:, :1]) ** 2) / 160)[:, None] * cover(56 - y)[None, :, None]
    scene.blend(path * (0.5 * light.glow * light.sun_alpha)[:, :, None], light.sun, SEA)
    scene.veil(0.60)

    where = cells(mid, 84, seed, 181, jitter=16)
    size = 0.85 + 0.3 * hash01(seed, where.number, 182)[:, None]
    lean = torch.where(pick(seed, where.number, 183, 2) == 0, 1.0, -1.0)[:, None]
    x = where.local[:, None] / size * lean
    y = (80 - scene.y(PALM_ROWS)[:, None]) / size
    bent = x - 0.009 * y * y
    there = (hash01(seed, where.number, 184) < 0.85)[:, None]
    trunk = torch.maximum((bent.abs() - 1.7 + 0.02 * y), (y - 15.5).abs() - 15.5)
    scene.blend(cover(trunk * size) * there, light.hazy((0.55, 0.38, 0.22), 0.05), PALM_ROWS)
    cx, cy = x - 8.6, y - 31
    # Each frond is an ellipse with another one cut out below.
    fronds = union(
        *(
            torch.maximum(
                ellipse(cx - dx, cy - dy, rx, 5.5), -ellipse(cx - dx * 1.15, cy - dy + 4.0, rx, 6.0)
            )
            for dx, dy, rx in ((-7.0, -0.5, 8.5), (7.0, -0.5, 8.5), (-4.0, 2.5, 7.0), (4.5, 2.5, 7.0))
        )
    )
    scene.blend(
        cover(union(fronds, capsule(cx, cy, 0, -1, 0, 4, 1.4)) * size) * there,
        light.hazy((0.14, 0.50, 0.24), 0.04),
        PALM_ROWS,
    )
    scene.veil(0.40)

    scene.floor((1.0, 0.93, 0.72), (0.90, 0.74, 0.50))
    depth = scene.y(GROUND_ROWS)[None, :, None] - scene.ground[:, None]
    lap = 1.6 + 1.2 * wave(scene.x(NEAR), 16, seed, 186)
    scene.blend(
        cover((depth - 0.3).abs() - lap[:, None]) * 0.85, light.lit((1.0, 1.0, 1.0), 0.1), GROUND_ROWS
    )
    for i, colour in enumerate(((0.98, 0.50, 0.42), (0.96, 0.97, 1.0), (0.70, 0.56, 0.36))):
        shell, cell = scene.spots(16, 190, depth=10, rx=2.2, ry=1.4, jitter=5)
        chosen = (pick(seed, cell.number, 194, 3) == i)[:, None]
        scene.blend(shell * chosen, light.lit(colour), GROUND_ROWS)
    scene.veil(0.12)
