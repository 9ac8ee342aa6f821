"""Light by time of day and weather: tint, sky, sun and haze, as rows of numbers that are blended linearly.

Pictures are unknown here. Shapes: N frames; colours (N, 3), amounts (N, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from engine.world.drawing.paint import RGB, mix, rgb


class Hour(NamedTuple):
    tint: RGB
    top: RGB
    middle: RGB
    low: RGB
    sun: RGB
    sun_x: float
    sun_y: float
    sun_radius: float
    glow: float
    night: float
    noon: float


# In the order of TIMES. At noon the sky is the place's own.
HOURS = (
    Hour((1.00, 0.84, 0.80), (0.45, 0.53, 0.82), (0.97, 0.72, 0.72), (1.0, 0.90, 0.66), (1.0, 0.97, 0.80),
         36, 47, 9, 0.55, 0, 0),
    Hour((1.0, 1.0, 1.0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (1.0, 0.98, 0.82), 124, 17, 8, 0.42, 0, 1),
    Hour((0.88, 0.60, 0.58), (0.22, 0.13, 0.40), (0.78, 0.28, 0.42), (1.0, 0.60, 0.26), (1.0, 0.42, 0.20),
         124, 47, 13, 0.60, 0, 0),
    Hour((0.29, 0.35, 0.58), (0.03, 0.05, 0.16), (0.07, 0.11, 0.28), (0.17, 0.23, 0.43), (0.96, 0.96, 0.88),
         40, 20, 8, 0.22, 1, 0),
)  # fmt: skip


class Climate(NamedTuple):
    """The sky of a place."""

    top: RGB
    low: RGB
    own: float = 0.12  # share of the place's own sky at times other than noon
    overcast: float = 1.0  # how much of the sky weather can cover
    stars: float = 0.0  # stars by day
    sun: float = 1.0  # size of the sun's glow
    moon: float = 1.0  # whether there is a moon at night


@dataclass(frozen=True)
class Light:
    tint: Tensor
    top: Tensor
    middle: Tensor
    low: Tensor
    sun: Tensor
    sun_place: Tensor  # (N, 3) x, y, radius in px
    sun_alpha: Tensor
    glow: Tensor
    night: Tensor
    stars: Tensor
    fog: Tensor
    mist: Tensor  # colour of fog

    def lit(self, colour: RGB, emission: float = 0.0) -> Tensor:
        """The colour of a surface under this light. Emission keeps part of its own colour."""
        own = rgb(colour, self.tint)
        # The eye sees little colour at night.
        grey = own.mean(1, keepdim=True) * self.tint * rgb((0.92, 1.0, 1.12), own)
        return mix(mix(own * self.tint, grey, 0.4 * self.night), own.expand_as(self.tint), emission)

    def hazy(self, colour: RGB, distance: float) -> Tensor:
        """The same from far away, mixed with the colour of the air."""
        return mix(self.lit(colour), mix(self.low, self.middle, 0.35), distance)


def light(climate: Climate, time: Tensor, weather: Tensor) -> Light:
    """time (N, 4) and weather (N, 4) as soft one-hots -> the light of N frames."""
    table = torch.tensor(
        [[*h.tint, *h.top, *h.middle, *h.low, *h.sun, *h[5:]] for h in HOURS], device=time.device
    )
    # Not a matmul, whose order of summation may depend on the batch: pictures must not.
    row = (time[:, :, None] * table[None]).sum(1)
    tint, top, middle, low, sun = (row[:, i : i + 3] for i in range(0, 15, 3))
    sun_place, glow, night, noon = row[:, 15:18], row[:, 18:19], row[:, 19:20], row[:, 20:21]

    place_top, place_low = rgb(climate.top, time), rgb(climate.low, time)
    place_middle = mix(place_top, place_low, 0.55)
    share = climate.own * (1 - noon)
    top = mix(top + place_top * noon, place_top * tint, share)
    middle = mix(middle + place_middle * noon, place_middle * tint, share)
    low = mix(low + place_low * noon, place_low * tint, share)

    rain, snow, fog = weather[:, 1:2], weather[:, 2:3], weather[:, 3:4]
    brightness = tint.mean(1, keepdim=True)
    mist = mix(rgb((0.87, 0.90, 0.92), time) * (0.25 + 0.75 * brightness) * (0.3 + 0.7 * tint), low, 0.25)
    grey = rgb((0.44, 0.49, 0.56), time) * (0.3 + 0.7 * tint)
    white = rgb((0.80, 0.84, 0.89), time) * (0.3 + 0.7 * tint)

    def cover_sky(colour: Tensor, share: float) -> Tensor:
        colour = mix(colour, grey, climate.overcast * share * rain * 0.72)
        colour = mix(colour, white, climate.overcast * share * snow * 0.62)
        return mix(colour, mist, climate.overcast * share * fog * 0.75)

    veiled = climate.overcast * (0.85 * rain + 0.65 * snow + 0.70 * fog)
    tint = tint * (1 - rain * rgb((0.24, 0.18, 0.12), time))
    return Light(
        tint=tint,
        top=cover_sky(top, 1.0),
        middle=cover_sky(middle, 1.0),
        low=cover_sky(low, 0.85),
        sun=sun,
        sun_place=sun_place,
        sun_alpha=(1 - veiled) * (1 - night * (1 - climate.moon)),
        glow=glow * climate.sun * (1 - 0.75 * veiled),
        night=night,
        stars=torch.maximum(night, torch.full_like(night, climate.stars)) * (1 - veiled),
        fog=fog,
        mist=mist,
    )
