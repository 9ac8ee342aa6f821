"""The plan of landmarks: chosen at random by the seed, or named by a prompt, before they come into view.

A plan has a fixed number of slots. Landmark n of the line is stored in slot n modulo that number. It is
chosen the first time that it can be seen and then stays, so a way back meets it again. A slot that the camera
left long ago is reused for a landmark ahead. Contains no models.

Legend: Q slots of four numbers: x in px of the world, kind counted from 1 (0: nothing), colour, size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from engine.landmarks.where import Where
from engine.types import FloatArray

SMALLEST, SIZES = 0.82, 0.34  # sizes are between SMALLEST and SMALLEST + SIZES
REACH_PX = 32  # the largest half width of a landmark


class LandmarkLine(Protocol):
    """The properties of a world's landmarks, which a model's spec has. Pictures are `width` px wide."""

    @property
    def width(self) -> int: ...
    @property
    def latent_width(self) -> int: ...
    @property
    def landmark_kinds(self) -> tuple[str, ...]: ...
    @property
    def landmark_colours(self) -> tuple[str, ...]: ...
    @property
    def landmark_spacing_px(self) -> int: ...
    @property
    def landmark_jitter_px(self) -> int: ...


class Asked(NamedTuple):
    """A landmark that a prompt asks for. None leaves the choice to chance."""

    kind: int | None  # index into the line's kinds
    colour: int | None
    where: Where | None = None
    more: bool = False  # in addition to existing ones


NAMED, MET = 1.0, 2.0  # of a slot: named by a prompt, and named and already in view; 0: chosen by chance


class CameraView(NamedTuple):
    """The camera's position and direction in a scene. Nothing has been seen yet of a `fresh` scene."""

    odometer: int
    travel: int  # 1 right, -1 left, 0 neither
    seed: int
    number: int
    fresh: bool = False


def number_of(row: FloatArray, line: LandmarkLine) -> int | None:
    """The number of the landmark in a slot, or None for an empty slot. A hidden landmark keeps its slot."""
    return int(row[0] // line.landmark_spacing_px) if row[3] else None


def in_view(odometer: int, steps: int, line: LandmarkLine) -> range:
    """Numbers of the landmarks that can be seen within `steps` steps of the camera."""
    cell = line.width // line.latent_width
    margin = line.width / 2 + REACH_PX + line.landmark_jitter_px
    middle = line.landmark_spacing_px / 2
    low, high = cell * (odometer - steps) - margin - middle, cell * (odometer + steps) + margin - middle
    return range(int(-(-low // line.landmark_spacing_px)), int(high // line.landmark_spacing_px) + 1)


def chosen(number: int, seed: int, scene: int, line: LandmarkLine, named: Asked | None = None) -> FloatArray:
    """Landmark `number` of a scene as a slot (4,): a random position and size, and a random kind and colour
    unless `named` gives them."""
    bits = np.random.Philox(key=[seed, scene], counter=[0, 0, 2, number % 2**63])
    chance = np.random.Generator(bits)
    off = int(chance.integers(-line.landmark_jitter_px, line.landmark_jitter_px + 1))
    kind = int(chance.integers(len(line.landmark_kinds)))
    colour = int(chance.integers(len(line.landmark_colours)))
    size = SMALLEST + SIZES * chance.random()
    if named is not None:
        kind = kind if named.kind is None else named.kind
        colour = colour if named.colour is None else named.colour
    x = number * line.landmark_spacing_px + line.landmark_spacing_px // 2 + off
    return np.array([x, 1 + kind, colour, size], np.float32)


def planned(
    plan: FloatArray, numbers: Sequence[int], seed: int, scene: int, line: LandmarkLine
) -> FloatArray:
    """The plan (Q, 4) with all of `numbers` chosen; existing ones do not change."""
    missing = [n for n in numbers if number_of(plan[n % len(plan)], line) != n]
    if not missing:
        return plan
    plan = plan.copy()
    for n in missing:
        plan[n % len(plan)] = chosen(n, seed, scene, line)
    return plan


def behind_picture(plan: FloatArray, line: LandmarkLine) -> FloatArray:
    """The plan (Q, 4) without the landmarks inside the picture that a scene started from: that picture shows
    its own landmarks, which are unknown."""
    inside = np.abs(plan[:, 0]) < line.width / 2 + REACH_PX
    plan = plan.copy()
    plan[inside, 1] = 0
    return plan


def with_named(
    plan: FloatArray, named: FloatArray, wanted: Sequence[Asked], scene: CameraView, line: LandmarkLine
) -> tuple[FloatArray, FloatArray]:
    """The plan (Q, 4) and its named slots (Q,), with these landmarks added at the next places out of view.

    A landmark is placed in the direction of travel, or on the requested side; if the camera stands still and
    no side is given, one is placed on each side. In a fresh scene, places start beside the hero. A landmark
    that is already planned ahead or in view is not planned again."""
    if not wanted:
        return plan, named
    plan, named, used = plan.copy(), named.copy(), set[int]()
    for one in wanted:
        if not one.more and (slot := _there(plan, named, one, scene, line, used)) is not None:
            used.add(slot)
            continue
        for way in _ways(one.where, scene):
            n = _free(plan, one.where, way, scene, line)
            if n is not None:
                plan[n % len(plan)] = chosen(n, scene.seed, scene.number, line, one)
                named[n % len(plan)] = NAMED
                used.add(n % len(plan))
    return plan, named


def updated_names(
    before: FloatArray, after: FloatArray, named: FloatArray, odometer: int, line: LandmarkLine
) -> FloatArray:
    """The named slots (Q,) after a segment that ended at `odometer` and changed the plan from `before` to
    `after`."""
    if not named.any():
        return named
    named = np.where((before != after).any(1), 0, named).astype(np.float32)
    close = np.abs(after[:, 0] - odometer * (line.width // line.latent_width)) < line.width / 2
    named[close & (named == NAMED)] = MET
    return named


def _there(
    plan: FloatArray, named: FloatArray, one: Asked, scene: CameraView, line: LandmarkLine, used: set[int]
) -> int | None:
    """The slot of a matching landmark that is planned ahead or in view, if any."""
    away = plan[:, 0] - scene.odometer * (line.width // line.latent_width)
    like = (plan[:, 1] == 1 + (one.kind or 0)) if one.kind is not None else plan[:, 1] > 0
    if one.colour is not None:
        like &= plan[:, 2] == one.colour
    coming = named == NAMED
    for side, where in ((1, "right"), (-1, "left")):
        if one.where == where:
            coming &= away * side > 0
    here = (np.abs(away) < line.width / 2) & (one.where in (None, "near")) & (not scene.fresh)
    found = [int(i) for i in np.flatnonzero(like & (coming | here)) if int(i) not in used]
    return found[0] if found else None


def _ways(where: Where | None, scene: CameraView) -> tuple[int, ...]:
    travel = scene.travel
    match where:
        case "right" | "left":
            return (1 if where == "right" else -1,)
        case "behind":
            return (-travel or -1,)
        case _ if travel:
            return (travel,)
        case "ahead" | "far":
            return (1,) if scene.fresh else (1, -1)
        case _:
            return (0,) if scene.fresh else (1, -1)


def _free(
    plan: FloatArray, where: Where | None, way: int, scene: CameraView, line: LandmarkLine
) -> int | None:
    """The number of the next place in direction `way` (0: the nearest) that is free, out of view, and whose
    slot holds nothing in view; None if there is none."""
    view = in_view(scene.odometer, 0, line)
    if way == 0:
        order = [i // 2 if i % 2 == 0 else -1 - i // 2 for i in range(len(plan))]
    else:
        beside = 0 if way > 0 else -1
        first = beside if scene.fresh else view[-1] + 1 if way > 0 else view[0] - 1
        if scene.fresh and where in ("ahead", "far"):
            first += way
        order = [first + way * i for i in range(len(plan))]
    in_use = {n % len(plan) for n in view} if not scene.fresh else set[int]()
    free = [n for n in order if number_of(plan[n % len(plan)], line) != n and n % len(plan) not in in_use]
    skip = int(where == "far" and len(free) > 1 and not scene.fresh)
    return free[skip] if free else None
