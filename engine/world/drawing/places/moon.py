"""Black sky with stars at any hour, the earth above, grey craters."""

from __future__ import annotations

import torch

from engine.world.drawing.light import Climate
from engine.world.drawing.noise import cells, hash01, ridge
from engine.world.drawing.paint import circle, cover, ellipse, mix, rgb
from engine.world.drawing.scene import FAR, GROUND_ROWS, MIDDLE, Scene

CLIMATE = Climate(
    top=(0.01, 0.01, 0.03), low=(0.07, 0.08, 0.13), own=0.86, overcast=0.45, stars=0.9, sun=0.55, moon=0.0
)
EARTH = slice(0, 60)
MID = slice(52, 86)


def paint_earth(scene: Scene) -> None:
    x = torch.arange(scene.image.shape[3], device=scene.camera.device, dtype=torch.float32)[None, :] - 78
    y = scene.y(EARTH)[:, None] - 26
    ball = cover(circle(x, y, 11.0))[None]
    n = len(scene.camera)
    white = rgb((1, 1, 1), scene.camera).expand(n, 3)
    scene.blend(
        (torch.exp(-(x * x + y * y) / 260) * 0.30)[None].expand(n, -1, -1),
        rgb((0.35, 0.60, 1.0), scene.camera).expand(n, 3),
        EARTH,
    )
    scene.blend(ball.expand(n, -1, -1), rgb((0.16, 0.42, 0.86), scene.camera).expand(n, 3), EARTH)
    land = torch.maximum(cover(ellipse(x + 3.5, y + 2, 4.5, 5.0)), cover(ellipse(x - 4.5, y - 4, 4.0, 3.0)))
    scene.blend((land * ball).expand(n, -1, -1), rgb((0.26, 0.64, 0.34), scene.camera).expand(n, 3), EARTH)
    cloud = torch.maximum(cover(ellipse(x - 1, y + 6, 6.0, 1.4)), cover(ellipse(x - 2, y - 2, 5.0, 1.2)))
    scene.blend((cloud * ball * 0.9).expand(n, -1, -1), white, EARTH)
    scene.blend((cover(-circle(x + 3.5, y + 3.5, 11.5)) * ball * 0.6).expand(n, -1, -1), white * 0.02, EARTH)


def paint(scene: Scene) -> None:
    light, seed = scene.light, scene.seed
    far, mid = scene.x(FAR), scene.x(MIDDLE)
    paint_earth(scene)
    rim = cells(far, 62, seed, 261, jitter=8)
    wall = torch.exp(-(((rim.local.abs() - 15) / 6) ** 2)) * (4 + 6 * hash01(seed, rim.number, 262))
    scene.hill(57 - wall - 3.5 * ridge(far, 70, seed, 264, octaves=2), light.hazy((0.50, 0.51, 0.58), 0.12),
               light.hazy((0.36, 0.37, 0.44), 0.12), slice(34, 84))  # fmt: skip
    scene.veil(0.55)
    body = scene.hill(66 - 3.5 * ridge(mid, 96, seed, 267, octaves=2), light.hazy((0.66, 0.67, 0.72), 0.04),
                      light.hazy((0.48, 0.49, 0.55), 0.04), MID)  # fmt: skip
    pit = cells(mid, 52, seed, 270, jitter=10)
    size = 0.7 + 0.6 * hash01(seed, pit.number, 271)[:, None]
    y = scene.y(MID)[None, :, None] - 72
    hollow = ellipse(pit.local[:, None], y, 14 * size, 3.2 * size)
    scene.blend(cover(hollow) * body, light.lit((0.34, 0.35, 0.42)), MID)
    scene.blend(cover(hollow.abs() - 0.5) * body * 0.8, light.lit((0.84, 0.85, 0.90)), MID)
    scene.veil(0.38)
    scene.floor((0.80, 0.80, 0.84), (0.46, 0.46, 0.53))
    for spacing, salt, depth, rx, ry in ((32.0, 274, 10.0, 7.5, 2.6), (16.0, 278, 6.5, 2.6, 1.1)):
        crater, _ = scene.spots(spacing, salt, depth=depth, rx=rx, ry=ry, jitter=spacing * 0.2)
        inner, _ = scene.spots(
            spacing, salt, depth=depth + 0.9, rx=rx * 0.86, ry=ry * 0.78, jitter=spacing * 0.2
        )
        scene.blend(crater * 0.9, mix(light.lit((0.40, 0.40, 0.47)), light.tint, 0.0), GROUND_ROWS)
        scene.blend(inner * 0.8, light.lit((0.60, 0.60, 0.66)), GROUND_ROWS)
    scene.veil(0.12)
