"""Red table mountains, dunes with a lit and a shaded side, cacti."""

from __future__ import annotations

from engine.world.drawing.light import Climate
from engine.world.drawing.noise import cells, hash01, ridge, wave
from engine.world.drawing.paint import capsule, cover, union
from engine.world.drawing.scene import FAR, GROUND_ROWS, MIDDLE, Scene

CLIMATE = Climate(top=(0.28, 0.62, 0.90), low=(1.0, 0.92, 0.72), own=0.15)
CACTUS_ROWS = slice(44, 74)


def paint(scene: Scene) -> None:
    light, seed = scene.light, scene.seed
    far, mid = scene.x(FAR), scene.x(MIDDLE)
    table = ((wave(far, 44, seed, 111) + 0.15) * 3.2).clamp(0, 1)
    step = ((wave(far, 44, seed, 111) - 0.35) * 4).clamp(0, 1)
    top = 61 - 13 * table - 7 * step - 1.5 * ridge(far, 18, seed, 114)
    rock = scene.hill(
        top, light.hazy((0.84, 0.46, 0.34), 0.22), light.hazy((0.94, 0.70, 0.50), 0.32), slice(34, 84)
    )
    strata = ((scene.y(slice(34, 84)) % 7) < 2).float()[:, None]
    scene.blend(rock * strata * 0.22, light.hazy((0.60, 0.28, 0.24), 0.2), slice(34, 84))
    scene.veil(0.62)

    dune = 66 - 6.5 * ridge(mid, 74, seed, 118, octaves=1)
    lit = scene.hill(
        dune, light.hazy((0.98, 0.80, 0.48), 0.08), light.hazy((0.90, 0.66, 0.38), 0.10), slice(52, 84)
    )
    lee = (
        dune[:, None, :]
        + 11 * ridge(mid + 14, 74, seed, 118, octaves=1)[:, None, :]
        - scene.y(slice(52, 84))[:, None]
    )
    scene.blend(lit * cover(lee / 2) * 0.40, light.hazy((0.78, 0.48, 0.28), 0.08), slice(52, 84))

    where = cells(mid, 46, seed, 122, jitter=10)
    size = 0.85 + 0.35 * hash01(seed, where.number, 123)[:, None]
    x = where.local[:, None] / size
    y = (72 - scene.y(CACTUS_ROWS)[:, None]) / size
    cactus = union(
        capsule(x, y, 0, 0, 0, 18, 2.3), capsule(x, y, -6, 9, 0, 7, 1.5), capsule(x, y, -6, 9, -6, 13, 1.5),
        capsule(x, y, 0, 9, 6, 11, 1.5), capsule(x, y, 6, 11, 6, 16, 1.5),
    )  # fmt: skip
    there = (hash01(seed, where.number, 124) < 0.75)[:, None]
    scene.blend(cover(cactus * size) * there, light.hazy((0.22, 0.48, 0.27), 0.05), CACTUS_ROWS)
    scene.veil(0.42)

    scene.floor((0.98, 0.83, 0.50), (0.80, 0.56, 0.30))
    ripple, _ = scene.spots(16, 126, depth=7, rx=7.0, ry=1.0, jitter=2)
    deeper, _ = scene.spots(16, 130, depth=13, rx=8.0, ry=1.1, jitter=3)
    scene.blend((ripple + deeper).clamp(max=1) * 0.42, light.lit((0.72, 0.46, 0.24)), GROUND_ROWS)
    scene.veil(0.12)
