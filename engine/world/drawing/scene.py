"""A batch of pictures of one place while they are painted.

A scene holds the picture, the light, the coordinates of the parallax layers, and the drawing operations that
all places share. It does not depend on the place.

Shapes: N frames, R rows, W = 160 columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.world.attributes import HERO_X, WIDTH
from engine.world.drawing.light import Light
from engine.world.drawing.noise import Cells, cells, hash01, ridge
from engine.world.drawing.paint import RGB, below, blend, cover, mix, rgb

# Speed of each layer as a share of the camera's. In steady motion a segment of two latent frames moves the
# near layer by two latent cells, the middle one by one, and the far one not at all. This is the law of the
# world, see docs/model.md.
NEAR, MIDDLE, FAR = 1.0, 0.5, 0.0
GROUND_Y = 78
GROUND_ROWS = slice(72, 96)


def terrain(x: Tensor) -> Tensor:
    """Screen row of the ground. It is the same in every place, so that a place can change during a walk."""
    return GROUND_Y - 2.6 * ridge(x, 88.0, scenery_seed(x), 11, octaves=2)


def scenery_seed(x: Tensor) -> Tensor:
    """The scenery is the same in every episode, so that a model can know it by heart: (N, W) → (N, 1)."""
    return torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)


@dataclass
class Scene:
    image: Tensor  # (N, 3, 96, 160) float, painted in place
    camera: Tensor  # (N,) px
    light: Light
    seed: Tensor = field(init=False)  # (N, 1) int64
    ground: Tensor = field(init=False)  # (N, W) screen row

    def __post_init__(self) -> None:
        near = self.x(NEAR)
        self.seed, self.ground = scenery_seed(near), terrain(near)

    def x(self, parallax: float) -> Tensor:
        """World position of every column in the layer with this share of the camera's speed (N, W)."""
        columns = torch.arange(WIDTH, device=self.camera.device, dtype=torch.float32) - HERO_X
        return self.camera[:, None] * parallax + columns

    def y(self, rows: slice) -> Tensor:
        return torch.arange(rows.start, rows.stop, device=self.camera.device, dtype=torch.float32)

    def gradient(self, upper: Tensor, lower: Tensor, rows: slice, start: float, stop: float) -> Tensor:
        """A gradient from one colour at row `start` to another at row `stop` -> (N, 3, R, 1)."""
        share = ((self.y(rows) - start) / (stop - start)).clamp(0, 1)[None, None, :, None]
        return mix(upper[:, :, None, None], lower[:, :, None, None], share)

    def blend(self, mask: Tensor, colour: Tensor, rows: slice) -> None:
        blend(self.image[:, :, rows], mask, colour)

    def hill(
        self,
        top: Tensor,
        upper: Tensor,
        lower: Tensor,
        rows: slice,
        *,
        fade: float | None = None,
        crisp: bool = False,
    ) -> Tensor:
        """Fill the area below a profile with a gradient -> its mask, to paint on the hill with."""
        mask = below(top, self.y(rows), crisp=crisp)
        self.blend(mask, self.gradient(upper, lower, rows, fade or rows.start, rows.stop), rows)
        return mask

    def veil(self, amount: float) -> None:
        """Add fog between this layer and the next one."""
        if bool((self.light.fog > 0).any()):
            self.image.lerp_(
                self.light.mist[:, :, None, None].expand_as(self.image),
                (amount * self.light.fog)[:, :, None, None].expand_as(self.image),
            )

    def floor(self, upper: RGB, lower: RGB, *, edge: Tensor | None = None) -> Tensor:
        """Paint the ground that the hero walks on, with a lighter edge -> its mask."""
        top = self.ground if edge is None else self.ground - edge
        mask = self.hill(top, self.light.lit(upper), self.light.lit(lower), GROUND_ROWS, fade=76)
        rim = mask * cover((self.y(GROUND_ROWS)[:, None] - self.ground[:, None] - 1.5) / 1.5)
        self.blend(
            rim * 0.30,
            mix(self.light.lit(upper), rgb((1, 1, 1), self.camera) * self.light.tint, 0.6),
            GROUND_ROWS,
        )
        return mask

    def spots(
        self, spacing: float, salt: int, *, depth: float, rx: float, ry: float, jitter: float
    ) -> tuple[Tensor, Cells]:
        """Flat ellipses, on average `depth` px below the edge of the ground -> mask (N, R, W), their
        cells."""
        where = cells(self.x(NEAR), spacing, self.seed, salt, jitter=jitter)
        size = 0.7 + 0.6 * hash01(self.seed, where.number, salt + 1)
        down = self.ground + depth + 5 * (hash01(self.seed, where.number, salt + 2) - 0.5)
        y = self.y(GROUND_ROWS)[:, None] - down[:, None]
        # A first-order ellipse without the root. Its tips are slightly soft, which suits spots on the ground.
        square = (where.local / (rx * size))[:, None] ** 2 + (y / (ry * size)[:, None]) ** 2
        return (0.5 - (square - 1) * (0.5 * ry * size)[:, None]).clamp(0, 1), where
