"""Which landmarks stand where: chosen by chance of the seed, or named by a prompt, before they are seen.

A plan has a fixed number of slots. Landmark n of the line lies in slot n modulo that number, and is chosen
the first time it can be seen; from then on it stays, so a way back meets it again. A slot that the camera
has long left is given to a landmark ahead. Knows no model.

Legend: Q slots of four numbers: x in px of the world, kind counted from 1 (0: nothing), colour, size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from engine.types import FloatArray

SMALLEST, SIZES = 0.82, 0.34  # sizes lie between these and their sum
REACH_PX = 32  # a landmark reaches so far to either side at most


class LandmarkLine(Protocol):
    """What has to be known of a world's landmarks; a model's spec says it. Pictures are `width` px wide."""

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


class Named(NamedTuple):
    """A landmark that a prompt asks for; None: whatever chance gives."""

    kind: int | None  # index into the line's kinds
    colour: int | None


def number_of(row: FloatArray, line: LandmarkLine) -> int | None:
    """Which landmark of the line a slot holds."""
    return int(row[0] // line.landmark_spacing_px) if row[1] else None


def in_view(odometer: int, steps: int, line: LandmarkLine) -> range:
    """Numbers of the landmarks that can be seen within so many steps of the camera."""
    cell = line.width // line.latent_width
    margin = line.width / 2 + REACH_PX + line.landmark_jitter_px
    middle = line.landmark_spacing_px / 2
    low, high = cell * (odometer - steps) - margin - middle, cell * (odometer + steps) + margin - middle
    return range(int(-(-low // line.landmark_spacing_px)), int(high // line.landmark_spacing_px) + 1)


def chosen(number: int, seed: int, scene: int, line: LandmarkLine, named: Named | None = None) -> FloatArray:
    """Landmark `number` of a scene: where chance puts it, and what it is where nobody says."""
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
    """The plan (Q, 4) with all of `numbers` chosen; those that are stay as they are."""
    missing = [n for n in numbers if number_of(plan[n % len(plan)], line) != n]
    if not missing:
        return plan
    plan = plan.copy()
    for n in missing:
        plan[n % len(plan)] = chosen(n, seed, scene, line)
    return plan


def with_named(
    plan: FloatArray, named: Sequence[Named], odometer: int, seed: int, scene: int, line: LandmarkLine
) -> FloatArray:
    """The plan with these landmarks next to come into view, in order, on either side of what has been
    seen."""
    if not named:
        return plan
    plan = plan.copy()
    for way in (1, -1):
        view = in_view(odometer, 0, line)
        n = view[-1] if way > 0 else view[0]
        for one in named:
            while number_of(plan[n % len(plan)], line) == n:
                n += way
            plan[n % len(plan)] = chosen(n, seed, scene, line, one)
    return plan
