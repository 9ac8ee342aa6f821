"""Smoking cones, streams of lava, black cracked rock."""

from __future__ import annotations

import torch

from engine.world.drawing.light import Climate
from engine.world.drawing.noise import cells, hash01, ridge, wave
from engine.world.drawing.paint import cover, ellipse, mix, rgb
from engine.world.drawing.scene import FAR, GROUND_ROWS, MIDDLE, NEAR, Scene

CLIMATE = Climate(top=(0.30, 0.17, 0.22), low=(0.95, 0.50, 0.30), own=0.55, sun=0.7)
CONE = slice(0, 84)
MID = slice(50, 86)


def paint(scene: Scene) -> None:
    light, seed = scene.light, scene.seed
    far, mid = scene.x(FAR), scene.x(MIDDLE)
    lava = rgb((1.0, 0.42, 0.06), scene.camera).expand_as(light.tint)
    hot = rgb((1.0, 0.80, 0.25), scene.camera).expand_as(light.tint)

    where = cells(far, 128, seed, 231, jitter=10)
    peak = 31 + 6 * (hash01(seed, where.number, 232) * 2 - 1)
    u = where.local
    y = scene.y(CONE)[:, None]
    for dx, dy, r in ((3.0, -7.0, 6.0), (9.0, -13.0, 8.0), (18.0, -18.0, 9.0)):
        puff = cover(ellipse(u[:, None] - dx, y - peak[:, None] - dy, r * 1.3, r), softness=5)
        scene.blend(puff * 0.5, light.hazy((0.34, 0.26, 0.30), 0.25), CONE)
    halo = torch.exp(-(u * u) / 260)[:, None] * torch.exp(-((y - peak[:, None]) ** 2) / 220)
    scene.blend(halo * 0.55, lava, CONE)
    slope = (
        peak + 42 * (1 - torch.exp(-(u.abs() - 7).clamp(min=0) / 27)) + 2 * (1 - (u / 7) ** 2).clamp(min=0)
    )
    top = torch.minimum(slope + 1.2 * ridge(far, 11, seed, 234), 61 - 4 * ridge(far, 46, seed, 237))
    body = scene.hill(top, light.hazy((0.34, 0.20, 0.22), 0.12), light.hazy((0.52, 0.28, 0.26), 0.28), CONE)
    down = y - peak[:, None]
    vent = cover(ellipse(u[:, None], down - 2.2, 7.5, 2.6))
    scene.blend(vent * body, hot, CONE)
    bend = 3.5 * torch.sin(down * 0.22) + 1.2 * torch.sin(down * 0.55)
    for lean, width in ((0.0, 2.4), (0.65, 1.4), (-0.75, 1.6)):
        stream = (u[:, None] - lean * down - bend * 0.6).abs() - width * (1 - down / 46).clamp(min=0.2)
        scene.blend(cover(stream) * body * cover(1 - down) * cover(down - 34, 8), mix(lava, hot, 0.15), CONE)
    scene.veil(0.60)

    crag = 68 - 5 * ridge(mid, 30, seed, 240, octaves=3, smooth=False)
    scene.hill(crag, light.hazy((0.24, 0.15, 0.17), 0.05), light.hazy((0.14, 0.09, 0.11), 0.05), MID)
    level = scene.y(MID)[None, :, None]
    river = cover((level - 74 - 1.3 * wave(mid, 26, seed, 244)[:, None]).abs() - 1.7)
    scene.blend(cover((level - 74).abs() - 4, 6) * 0.35, lava, MID)
    scene.blend(river, mix(lava, hot, 0.45), MID)
    scene.veil(0.40)

    scene.floor(
        (0.30, 0.23, 0.24), (0.10, 0.07, 0.09), edge=0.9 * ridge(scene.x(NEAR), 9, seed, 246, smooth=False)
    )
    depth = scene.y(GROUND_ROWS)[None, :, None] - scene.ground[:, None]
    crack = cells(scene.x(NEAR), 32, seed, 250, jitter=6)
    zigzag = (
        crack.local[:, None]
        - (depth - 9) * 0.9
        - 2.2 * ((depth * 0.5 + hash01(seed, crack.number, 251)[:, None]) % 2 - 1).abs()
    )
    line = zigzag.abs() * 0.75
    span = cover(3.5 - depth) * cover(depth - 15)
    scene.blend(cover(line - 2.2, 3) * span * 0.35, lava, GROUND_ROWS)
    scene.blend(cover(line - 0.7) * span, mix(lava, hot, 0.35), GROUND_ROWS)
    stone, _ = scene.spots(16, 254, depth=10, rx=4.0, ry=1.6, jitter=4)
    scene.blend(stone * 0.55, light.lit((0.38, 0.30, 0.31)), GROUND_ROWS)
    scene.veil(0.12)
