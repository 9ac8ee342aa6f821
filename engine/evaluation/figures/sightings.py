"""Readings of single frames → landmarks with positions in the world; two passes by the same places → matches.

Positions assume that the camera moves as the actions say, so a landmark that comes back too far off does not
count as found. Pure functions without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.evaluation.instruments.landmark_reader import ColumnReading
from engine.world.attributes import HERO_X, WIDTH
from engine.world.drawing.landmarks import survey

SAME_PX: Final = 40  # landmarks are at least 83 px apart
SEEN_TIMES: Final = 3  # frames that must show a landmark
PRESENT: Final = 0.5
MARGIN_PX: Final = 12  # landmarks cut by the edge of the screen are not read
AROUND_PX: Final = 16  # presence may spread over neighbouring columns: the strongest one counts


class Sighting(NamedTuple):
    """One landmark seen on one pass. `x` is in px from the start of the journey."""

    x: float
    kind: int
    colour: int
    times: int  # frames that showed it


class Match(NamedTuple):
    """A landmark of the way out, and whether the way back shows it again."""

    x: float
    found: bool  # there is a landmark within SAME_PX
    kind: bool
    colour: bool


def landmarks(reading: ColumnReading, camera: Tensor) -> list[Sighting]:
    """The readings of the frames of one pass, with the camera's position in each (N,) px → the landmarks from
    left to right."""
    frame, cell = _peaks(reading).nonzero(as_tuple=True)
    place = camera[frame] + reading.x[frame, cell] - HERO_X
    order = place.argsort()
    groups: list[list[int]] = []
    last = -1e9
    for i in order.tolist():
        if float(place[i]) - last > SAME_PX:
            groups.append([])
        groups[-1].append(i)
        last = float(place[i])
    out = []
    for group in groups:
        if len(group) >= SEEN_TIMES:
            at = (frame[group], cell[group])
            kind, colour = int(reading.kind[at].sum(0).argmax()), int(reading.colour[at].sum(0).argmax())
            out.append(Sighting(float(place[group].median()), kind, colour, len(group)))
    return out


def true_landmarks(camera: Tensor, seed: int) -> list[Sighting]:
    """The landmarks along the camera's path in the world of this seed."""
    marks = survey(camera, torch.full((len(camera), 1), seed))
    seen: dict[int, Sighting] = {}
    for values in zip(*(part.flatten().tolist() for part in marks[:5]), strict=True):
        number, world_x, _, kind, colour = values
        seen[number] = Sighting(world_x, kind, colour, len(camera))
    return [seen[number] for number in sorted(seen)]


def _peaks(reading: ColumnReading) -> Tensor:
    """(N, CELLS) bool: at most one column per landmark, and none at the edges."""
    reach = AROUND_PX // 8
    strongest = F.max_pool1d(reading.present[:, None], 2 * reach + 1, 1, reach)[:, 0]
    inside = (reading.x >= MARGIN_PX) & (reading.x < WIDTH - MARGIN_PX)
    return (reading.present >= PRESENT) & (reading.present == strongest) & inside


def compare(out: Sequence[Sighting], back: Sequence[Sighting]) -> list[Match]:
    """Match every landmark of the way out with the nearest one of the way back."""
    matches = []
    for a in out:
        near = [b for b in back if abs(a.x - b.x) <= SAME_PX]
        b = min(near, key=lambda b: abs(a.x - b.x)) if near else None
        same_kind, same_colour = b is not None and b.kind == a.kind, b is not None and b.colour == a.colour
        matches.append(Match(a.x, b is not None, same_kind, same_colour))
    return matches


def retrieval(out: Tensor, back: Tensor, choices: int) -> float | None:
    """Descriptors of the same places on the way out (P, D) and back (P, D), in order → how often a picture of
    the way back is most similar to the one of the way out at the same place, among `choices` evenly spaced
    places. None if there are fewer places."""
    if len(out) < choices:
        return None
    hits = []
    step = len(out) / choices
    for i in range(len(out)):
        others = [int((i + round(k * step)) % len(out)) for k in range(choices)]
        likeness = out[others] @ back[i]
        hits.append(int(likeness.argmax()) == 0)
    return sum(hits) / len(hits)


def descriptors(frames: Tensor) -> Tensor:
    """Describe the picture of a place without any network: frames (N, 3, 96, 160) uint8 of one way → unit
    vectors (N, D). They hold the brightness of 4 px cells from hills to ground, without the hero's columns
    and minus its mean over the way, so that sky, sun and light have no effect."""
    grey = frames[:, :, 24:92].float().mean(1, keepdim=True)
    cells = F.avg_pool2d(grey, 4)[:, 0]
    hero = HERO_X // 4
    x = torch.cat([cells[..., : hero - 5], cells[..., hero + 5 :]], -1)
    return F.normalize((x - x.mean(0)).flatten(1), dim=-1)
