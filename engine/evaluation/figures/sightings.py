"""From what the reader sees in every frame to landmarks with a place in the world, and from two passes by the
same places to how many are the same.

Places are where the actions say the camera is; so a landmark that comes back too far off does not count as
found. Pure: knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.evaluation.instruments.landmark_reader import Sight
from engine.world.attributes import HERO_X, WIDTH
from engine.world.drawing.landmarks import survey

SAME_PX: Final = 40  # landmarks stand at least 83 px apart
SEEN_TIMES: Final = 3  # a landmark that fewer frames show is none
PRESENT: Final = 0.5
MARGIN_PX: Final = 12  # landmarks cut by the edge of the screen are not read
AROUND_PX: Final = 16  # presence may be spread over neighbouring columns: the strongest one counts


class Found(NamedTuple):
    """One landmark seen on one pass. `x` is in px from the start of the journey."""

    x: float
    kind: int
    colour: int
    times: int  # frames that showed it


class Match(NamedTuple):
    """A landmark of the way out, and whether the way back shows the same."""

    x: float
    found: bool  # something stands within SAME_PX of there
    kind: bool
    colour: bool


def landmarks(sight: Sight, camera: Tensor) -> list[Found]:
    """What the reader made of the frames of one pass, and the camera in px for each (N,), → landmarks from
    left to right."""
    frame, cell = _peaks(sight).nonzero(as_tuple=True)
    place = camera[frame] + sight.x[frame, cell] - HERO_X
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
            kind, colour = int(sight.kind[at].sum(0).argmax()), int(sight.colour[at].sum(0).argmax())
            out.append(Found(float(place[group].median()), kind, colour, len(group)))
    return out


def standing(camera: Tensor, seed: int) -> list[Found]:
    """The true landmarks along the camera's path, in the world of this seed."""
    marks = survey(camera, torch.full((len(camera), 1), seed))
    seen: dict[int, Found] = {}
    for values in zip(*(part.flatten().tolist() for part in marks[:5]), strict=True):
        number, world_x, _, kind, colour = values
        seen[number] = Found(world_x, kind, colour, len(camera))
    return [seen[number] for number in sorted(seen)]


def _peaks(sight: Sight) -> Tensor:
    """(N, CELLS) bool: at most one column for every landmark, none at the edges."""
    reach = AROUND_PX // 8
    strongest = F.max_pool1d(sight.present[:, None], 2 * reach + 1, 1, reach)[:, 0]
    inside = (sight.x >= MARGIN_PX) & (sight.x < WIDTH - MARGIN_PX)
    return (sight.present >= PRESENT) & (sight.present == strongest) & inside


def compare(out: Sequence[Found], back: Sequence[Found]) -> list[Match]:
    """For every landmark of the way out, the nearest one of the way back."""
    matches = []
    for a in out:
        near = [b for b in back if abs(a.x - b.x) <= SAME_PX]
        b = min(near, key=lambda b: abs(a.x - b.x)) if near else None
        same_kind, same_colour = b is not None and b.kind == a.kind, b is not None and b.colour == a.colour
        matches.append(Match(a.x, b is not None, same_kind, same_colour))
    return matches


def retrieval(out: Tensor, back: Tensor, choices: int) -> float | None:
    """Pictures at the same places on the way out (P, D) and back (P, D), in order of place → how often the
    one of the way out at the same place is the most like the one of the way back, among `choices` places
    spread evenly over the way. None where there are fewer places."""
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
    """What makes the picture of a place its own, without any network: (N, 3, 96, 160) uint8 of one way → (N,
    D), unit vectors. Brightness in cells of 4 px from hills to ground, the hero's columns left out, less the
    mean over the way, so that sky, sun and light count for nothing."""
    grey = frames[:, :, 24:92].float().mean(1, keepdim=True)
    cells = F.avg_pool2d(grey, 4)[:, 0]
    hero = HERO_X // 4
    x = torch.cat([cells[..., : hero - 5], cells[..., hero + 5 :]], -1)
    return F.normalize((x - x.mean(0)).flatten(1), dim=-1)
