"""Rolling green hills with round trees, flowers in the grass."""

from __future__ import annotations

from engine.world.drawing.light import Climate
from engine.world.drawing.noise import cells, hash01, pick, ridge
from engine.world.drawing.scene import FAR, GROUND_ROWS, MIDDLE, NEAR, Scene
from engine.world.drawing.sky import paint_clouds

CLIMATE = Climate(top=(0.24, 0.55, 0.93), low=(0.82, 0.94, 1.0))
PETALS = ((1.0, 1.0, 0.95), (1.0, 0.85, 0.20), (0.98, 0.45, 0.62))


def paint(scene: Scene) -> None:
    light, seed = scene.light, scene.seed
    paint_clouds(scene)
    far, mid, near = scene.x(FAR), scene.x(MIDDLE), scene.x(NEAR)

    scene.hill(50 - 9 * ridge(far, 92, seed, 41, octaves=2), light.hazy((0.46, 0.68, 0.80), 0.30),
               light.hazy((0.66, 0.84, 0.86), 0.40), slice(30, 80))  # fmt: skip
    scene.hill(58 - 7 * ridge(far, 64, seed, 44, octaves=2), light.hazy((0.42, 0.72, 0.52), 0.15),
               light.hazy((0.62, 0.84, 0.62), 0.25), slice(44, 82))  # fmt: skip
    scene.veil(0.62)

    top = 67 - 5 * ridge(mid, 84, seed, 47, octaves=2)
    trees = cells(mid, 17, seed, 50, jitter=4)
    radius = 4.0 + 2.5 * hash01(seed, trees.number, 51)
    crown = (radius * radius - trees.local * trees.local).clamp(min=0).sqrt() * 1.5
    crown = crown * (hash01(seed, trees.number, 52) < 0.45)
    scene.hill(
        top - crown, light.hazy((0.24, 0.58, 0.30), 0.06), light.hazy((0.14, 0.44, 0.26), 0.06), slice(44, 84)
    )
    scene.hill(
        top + 0.8,
        light.hazy((0.50, 0.78, 0.34), 0.08),
        light.hazy((0.36, 0.66, 0.28), 0.08),
        slice(56, 84),
        fade=62,
    )
    scene.veil(0.45)

    blades = cells(near, 4, seed, 55)
    grass = (1.6 + 1.6 * hash01(seed, blades.number, 56)) * (1 - blades.local.abs() / 2).clamp(min=0)
    scene.floor((0.50, 0.80, 0.26), (0.17, 0.48, 0.17), edge=grass)
    tuft, _ = scene.spots(16, 57, depth=10, rx=5.5, ry=1.6, jitter=3)
    scene.blend(tuft * 0.45, light.lit((0.16, 0.50, 0.16)), GROUND_ROWS)
    for i, colour in enumerate(PETALS):
        flower, where = scene.spots(16, 60, depth=7, rx=1.7, ry=1.5, jitter=5)
        chosen = (pick(seed, where.number, 64, 4) == i)[:, None]
        scene.blend(flower * chosen, light.lit(colour, 0.15), GROUND_ROWS)
    scene.veil(0.12)
