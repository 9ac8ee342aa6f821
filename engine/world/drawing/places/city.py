"""Two rows of houses with windows that light up at night, and a street."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from engine.world.drawing.light import Climate
from engine.world.drawing.noise import cells, hash01, pick
from engine.world.drawing.paint import below, cover, mix, rgb
from engine.world.drawing.scene import FAR, GROUND_ROWS, MIDDLE, NEAR, Scene

CLIMATE = Climate(top=(0.40, 0.60, 0.86), low=(0.90, 0.93, 0.95))
FAR_ROWS, MID_ROWS = slice(18, 84), slice(24, 84)
WALLS = ((0.44, 0.48, 0.58), (0.52, 0.44, 0.46), (0.38, 0.46, 0.54))


class Row(NamedTuple):
    """One row of houses, seen by every column (N, W)."""

    height: Tensor  # of the roof
    across: Tensor  # px from the left wall
    house: Tensor  # its number, int64


def skyline(x: Tensor, width: int, low: float, high: float, seed: Tensor, salt: int) -> Row:
    where = cells(x, width, seed, salt)
    height = (low + (high - low) * hash01(seed, where.number, salt + 1)).round()
    kind = pick(seed, where.number, salt + 2, 4)
    across = where.local.abs()
    stepped = torch.where(across < width * 0.28, 5.0, 0.0)
    spire = torch.where(across < 1, 9.0, torch.where(across < 3, 3.0, 0.0))
    gable = ((width * 0.5 - across) * 0.6).clamp(min=0)
    roof = torch.where(kind == 1, stepped, torch.where(kind == 2, spire, torch.where(kind == 3, gable, 0.0)))
    return Row(height + roof, where.local + width / 2, where.number)


def windows(
    scene: Scene, row: Row, base: float, height: Tensor, size: tuple[int, int, int], salt: int, rows: slice
) -> tuple[Tensor, Tensor]:
    """Mask of the window panes (N, R, W), and for each whether somebody is at home."""
    pitch, glass_w, glass_h = size
    y = scene.y(rows)
    storey = ((base - y) / (glass_h + 3)).floor().long()
    column = (row.across / pitch).floor().long()
    offset = row.across % pitch
    pane_x = (offset >= 1) & (offset < 1 + glass_w)
    pane_y = ((base - y) % (glass_h + 3)) < glass_h
    inside = y[None, :, None] > (base - height + 3)[:, None]
    mask = (pane_x[:, None] & pane_y[None, :, None] & inside).float()
    key = (row.house * 17 + column)[:, None, :] * 31 + storey[None, :, None]
    return mask, hash01(scene.seed[:, :, None], key, salt)


def paint(scene: Scene) -> None:
    light, seed = scene.light, scene.seed
    glow = rgb((1.0, 0.84, 0.42), scene.camera)
    night = (light.night + 0.45 * (1 - light.tint.mean(1, keepdim=True))).clamp(0, 1)

    # Far away, one colour of houses and many small windows, half of them lit at night.
    row = skyline(scene.x(FAR), 13, 14, 42, seed, 201)
    upper, lower = light.hazy((0.58, 0.66, 0.80), 0.30), light.hazy((0.74, 0.80, 0.88), 0.45)
    body = scene.hill(66 - row.height, upper, lower, FAR_ROWS, crisp=True)
    panes, chance = windows(scene, row, 66, row.height - 3, (4, 2, 2), 205, FAR_ROWS)
    shade = mix(light.hazy((0.46, 0.56, 0.72), 0.3), glow, 0.75 * night)
    dim, home = night[:, :, None] * (chance >= 0.5), night[:, :, None] * (chance < 0.5)
    scene.blend(panes * body * (0.35 + 0.65 * home) * (1 - 0.6 * dim), shade, FAR_ROWS)
    scene.veil(0.62)

    row = skyline(scene.x(MIDDLE), 24, 12, 36, seed, 211)
    body = below(78 - row.height, scene.y(MID_ROWS), crisp=True)
    for i, wall in enumerate(WALLS):
        mine = (pick(seed, row.house, 218, len(WALLS)) == i)[:, None]
        tones = scene.gradient(light.hazy(wall, 0.04), light.hazy(wall, 0.18), MID_ROWS, 36, 80)
        scene.blend(body * mine, tones, MID_ROWS)
    edge = body * (((row.across < 1) | (row.across >= 23))[:, None])
    scene.blend(edge * 0.35, light.lit((0.16, 0.18, 0.24)), MID_ROWS)
    panes, chance = windows(scene, row, 77, row.height - 2, (6, 4, 4), 215, MID_ROWS)
    glass, dark = light.hazy((0.70, 0.84, 0.95), 0.05), light.lit((0.20, 0.24, 0.34))
    scene.blend(panes * body * 0.85, mix(glass, dark, 0.75 * night), MID_ROWS)
    scene.blend(panes * body * (chance < 0.55) * night[:, :, None], glow.expand_as(glass), MID_ROWS)
    scene.veil(0.42)

    scene.floor((0.66, 0.66, 0.70), (0.42, 0.42, 0.46))
    depth = scene.y(GROUND_ROWS)[None, :, None] - scene.ground[:, None]
    scene.blend(cover(4.5 - depth), light.lit((0.26, 0.27, 0.32)), GROUND_ROWS)
    near = scene.x(NEAR)
    slab = ((near % 16) < 1).float()[:, None] * cover(depth - 4.5)
    scene.blend(slab * 0.5, light.lit((0.40, 0.40, 0.45)), GROUND_ROWS)
    dash = cover(((near % 32) - 16).abs() - 7)[:, None] * cover((depth - 11).abs() - 0.9)
    scene.blend(dash, light.lit((0.95, 0.90, 0.70), 0.2), GROUND_ROWS)
    lid, _ = scene.spots(64, 222, depth=14, rx=5.0, ry=1.2, jitter=16)
    scene.blend(lid * 0.6, light.lit((0.14, 0.14, 0.18)), GROUND_ROWS)
    scene.veil(0.12)
