"""Renders episodes: backdrops of the places, then landmarks, hero and weather.

This module stacks the layers and dissolves places into each other; other modules paint them.
Shapes: B batch, T requested pixel frames, N frames of one chunk, (96, 160) the picture.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from engine.world.attributes import HEIGHT, WIDTH
from engine.world.drawing.heroes import paint_heroes
from engine.world.drawing.labels import Labels, labels
from engine.world.drawing.landmarks import paint_landmarks
from engine.world.drawing.light import Light, light
from engine.world.drawing.places import BACKDROPS
from engine.world.drawing.scene import Scene, terrain
from engine.world.drawing.sky import paint_sky
from engine.world.drawing.weather import Patterns, paint_weather
from engine.world.episodes import Episodes, Frames

__all__ = ["Labels", "labels", "paint", "render"]


@torch.no_grad()
def render(episodes: Episodes, start: int = 0, stop: int | None = None, *, chunk: int = 32) -> Tensor:
    """Pixel frames [start, stop) -> (B, T, 3, 96, 160) uint8.

    `chunk` frames are painted at a time. A small chunk fits the caches of a CPU; a GPU needs hundreds.
    """
    frames = episodes.frames(start, stop)
    device = frames.camera.device
    patterns = Patterns.on(device)
    pictures = torch.empty(len(frames), 3, HEIGHT, WIDTH, dtype=torch.uint8, device=device)
    for i in range(0, len(frames), chunk):
        image = paint(frames.pick(slice(i, i + chunk)), patterns)
        pictures[i : i + chunk] = image.clamp_(0, 1).mul_(255).add_(0.5).to(torch.uint8)
    return pictures.view(episodes.batch, -1, 3, HEIGHT, WIDTH)


def paint(frames: Frames, patterns: Patterns) -> Tensor:
    """Paint N frames -> (N, 3, 96, 160), float."""
    image, shade = paint_places(frames)
    paint_landmarks(image, shade, frames.camera, frames.seed, frames.clock)
    underfoot = hero_ground(frames)
    paint_heroes(
        image, shade, underfoot, frames.camera, frames.hero_y, frames.facing, frames.clock,
        frames.weights["hero"], frames.weights["colour"],
    )  # fmt: skip
    paint_weather(image, shade, frames.weights["weather"], frames.clock, patterns)
    return image


def paint_places(frames: Frames) -> tuple[Tensor, Light]:
    """The backdrops of all frames, dissolved between places, and the light, blended likewise."""
    n, device = len(frames), frames.camera.device
    image = torch.zeros(n, 3, HEIGHT, WIDTH, device=device)
    sums: dict[str, Tensor] = {}
    for number, place in enumerate(BACKDROPS):
        share = frames.weights["place"][:, number]
        who = share.nonzero()[:, 0]
        if not len(who):
            continue
        seen = frames.pick(who)
        scene = Scene(
            image=torch.empty(len(who), 3, HEIGHT, WIDTH, device=device),
            camera=seen.camera,
            light=light(place.climate, seen.weights["time"], seen.weights["weather"]),
        )
        paint_sky(scene)
        place.paint(scene)
        image.index_add_(0, who, scene.image * share[who, None, None, None])
        for field in fields(Light):
            value: Tensor = getattr(scene.light, field.name)
            total = sums.setdefault(field.name, torch.zeros(n, value.shape[1], device=device))
            total.index_add_(0, who, value * share[who, None])
    return image, Light(**sums)


def hero_ground(frames: Frames) -> Tensor:
    """Screen row under the feet of a standing hero (N,)."""
    return terrain(frames.camera[:, None])[:, 0]
