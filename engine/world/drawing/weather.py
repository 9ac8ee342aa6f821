"""Falling rain and snow, painted over the finished picture.

Each is a fixed pattern that moves down the screen and is the same for every seed. Rain repeats after 4
frames, snow after 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.world.attributes import HEIGHT, WIDTH
from engine.world.drawing.light import Light
from engine.world.drawing.noise import hash01
from engine.world.drawing.paint import blend, mix, rgb

RAIN_TILE_PX = 48
RAIN_PX_PER_FRAME = 12
SNOW_PX_PER_FRAME = 4
STREAKS = 46
SNOW_TILE_PX = 32  # 8 frames of SNOW_PX_PER_FRAME: snow repeats after one segment
FLAKES = 13


@dataclass(frozen=True)
class Patterns:
    rain: Tensor  # (48, W) coverage
    snow: Tensor  # (32, W)

    @classmethod
    def on(cls, device: torch.device) -> Patterns:
        columns = torch.arange(WIDTH, device=device, dtype=torch.float32)
        one = torch.zeros(1, dtype=torch.int64, device=device)

        number = torch.arange(STREAKS, device=device)
        # Evenly spaced over the columns, then jittered: pure randomness would form clusters.
        x = (number + 0.15 + 0.7 * hash01(one, number, 401)) * (WIDTH / STREAKS)
        y = ((number * 29) % STREAKS + hash01(one, number, 402)) * (RAIN_TILE_PX / STREAKS)
        size = 9 + 6 * hash01(one, number, 403)
        rows = torch.arange(RAIN_TILE_PX, device=device, dtype=torch.float32)
        along = (rows[None, :] - y[:, None]) % RAIN_TILE_PX  # (streak, row) px below the upper end
        thin = (0.5 + along / size[:, None]) * (along < size[:, None])
        across = (1.15 - (columns[None, :] - x[:, None]).abs()).clamp(0, 1)
        rain = (thin[:, :, None] * across[:, None, :]).amax(0)

        number = torch.arange(FLAKES, device=device)
        x = (number + 0.15 + 0.7 * hash01(one, number, 404)) * (WIDTH / FLAKES)
        y = ((number * 5) % FLAKES + hash01(one, number, 405)) * (SNOW_TILE_PX / FLAKES)
        radius = 1.3 + 0.7 * hash01(one, number, 406)
        rows = torch.arange(SNOW_TILE_PX, device=device, dtype=torch.float32)
        down = (rows[None, :] - y[:, None] + SNOW_TILE_PX / 2) % SNOW_TILE_PX - SNOW_TILE_PX / 2
        aside = columns[None, :] - x[:, None]
        distance = torch.sqrt(down[:, :, None] ** 2 + aside[:, None, :] ** 2) - radius[:, None, None]
        snow = (0.5 - distance / 1.3).clamp(0, 1).amax(0)
        return cls(rain.clamp(0, 1), snow)


def paint_weather(image: Tensor, light: Light, weather: Tensor, clock: Tensor, patterns: Patterns) -> None:
    """Paint rain and snow over image (N, 3, 96, 160) in place. weather (N, 4) gives their strength."""
    rows = torch.arange(HEIGHT, device=image.device)
    for column, pattern, speed, tone, strength in (
        (1, patterns.rain, RAIN_PX_PER_FRAME, (0.80, 0.88, 0.98), 0.50),
        (2, patterns.snow, SNOW_PX_PER_FRAME, (1.0, 1.0, 1.0), 0.95),
    ):
        where = (weather[:, column] > 0).nonzero()[:, 0]
        if not len(where):
            continue
        amount = weather[where, column][:, None]
        view = image[where]
        if column == 2:
            pale = mix(rgb((0.90, 0.93, 0.97), image) * light.tint[where], light.low[where], 0.2)
            blend(view, (0.13 * amount)[:, :, None].expand(-1, HEIGHT, WIDTH), pale)
        row = (rows[None, :] - speed * clock[where, None]) % pattern.shape[0]
        brightness = 0.45 + 0.55 * light.tint[where].mean(1, keepdim=True)
        blend(view, pattern[row] * (strength * amount)[:, :, None], rgb(tone, image) * brightness)
        image[where] = view
