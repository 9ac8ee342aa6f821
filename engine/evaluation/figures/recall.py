"""Recall: out for T seconds, back for T seconds: does what has been passed stand there again?

Landmarks are read by a network (`engine.evaluation.instruments.landmark_reader`); beside it stands a measure
without any network, how like the pictures of the same place are on the way out and on the way back. Seeds
come in pairs that share a prompt: the way back of one against the way out of the other is the chance level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import CHUNK, Studio, acted, truth
from engine.evaluation.figure import (
    Cell,
    Jobs,
    Outcome,
    Row,
    Scale,
    SheetPicture,
    Strip,
    Summary,
    Table,
    pick,
)
from engine.evaluation.figures.sightings import (
    Found,
    Match,
    compare,
    descriptors,
    landmarks,
    retrieval,
    standing,
)
from engine.evaluation.instruments.landmark_reader import Sight
from engine.evaluation.statistics import mean, share
from engine.world.attributes import COLOURS, FPS, HERO_X, LANDMARKS, WALK_PX_PER_FRAME

SETTLE_S: Final = 1.0  # a scene's first pictures come out of nothing
EVERY: Final = 2  # frames between looks
PLACE_PX: Final = 32  # distance of the places that pictures are compared at
CHOICES: Final = 8
EDGE_PX: Final = 48
UNSEEN_PX: Final = 96  # such a place's picture has been gone for 3 s and more
WALK_PX_PER_S: Final = WALK_PX_PER_FRAME * FPS
AGES_S: Final = (2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
FRAMEPACK_S: Final = 4.75  # what 19 latent frames of history hold
TRUTH: Final = "rendered, through the autoencoder"


class Journey(NamedTuple):
    """One video out and back. Frames are those of the way, both ways of the same length."""

    out: list[Found]
    back: list[Found]
    looks_out: Tensor  # (P, D) at places in order
    looks_back: Tensor


def age_s(x: float, turn_px: float) -> float:
    """How long a landmark at x has been off the screen when it comes back, with the turn at `turn_px`."""
    return 2 * (turn_px - x - HERO_X) / WALK_PX_PER_S


class Recall:
    name = "recall"
    title = "Recall on the way back"
    about = (
        "Out to the right for T seconds, then back for T seconds. Landmarks that had left the screen: is "
        "there one again, of the same kind, of the same colour? Upper strip: the way out; lower strip: the "
        "way back, the same places below each other, with what the reader sees there."
    )
    version = 1
    needs_reader = True
    needs_others = False

    def jobs(self, studio: Studio, scale: Scale) -> Jobs:
        jobs: dict[str, Callable[[], Outcome]] = {}
        for t in scale.journeys_s:
            for pair in range((scale.n + 1) // 2):
                jobs[f"{t:g}s-{pair:03}"] = partial(self._pair, studio, t, pair, False)
            if t <= 20:
                for pair in range((scale.truths + 1) // 2):
                    jobs[f"{t:g}s-{pair:03}-truth"] = partial(self._pair, studio, t, pair, True)
        return jobs

    def _pair(self, studio: Studio, seconds: float, pair: int, rendered: bool) -> Outcome:
        rng = Random(f"recall {pair}")
        what = prompts.attributes("recall", pair)
        said = prompts.say(what, rng)
        strips: list[Strip] = []
        journeys = []
        for seed in (2 * pair, 2 * pair + 1):
            video, settled, away = self._video(studio, seconds, seed, what, said, rendered)
            journeys.append(self._journey(studio, video[settled:], away))
            if not strips:
                told = TRUTH if rendered else said
                strips = self._strips(studio, video[settled:], away, f"{seconds:g} s, seed {seed}: {told}")
        turn_px = float(away * WALK_PX_PER_FRAME)
        found = []
        for i, j in enumerate(journeys):
            other = journeys[1 - i]
            found.append(
                {
                    "seed": 2 * pair + i,
                    "turn_px": turn_px,
                    "landmarks": len(j.out),
                    "same": _aged(compare(j.out, j.back), turn_px),
                    "chance": _aged(compare(other.out, j.back), turn_px),
                    **_likeness(j, other),
                }
            )
            if rendered:
                way = _camera(away)[:away]
                found[-1]["read right"] = _right(compare(j.out, standing(way, 2 * pair + i)))
        return Outcome({"T": seconds, "seed": pair, "rendered": rendered, "found": found}, strips)

    def _video(
        self, studio: Studio, seconds: float, seed: int, what: prompts.Attributes, said: str, rendered: bool
    ) -> tuple[Tensor, int, int]:
        """The video, its frames before the way, and the frames of one way."""
        model = studio.model
        settle, way = model.segments(SETTLE_S), model.segments(seconds)
        script, actions = acted(model.spec, [(settle, "idle"), (way, "right"), (way, "left")])
        if rendered:
            video = _in_parts(model.blurred, truth(prompts.values(what), actions, seed))
        else:
            video = model.video(said, seed, settle + 2 * way, script)
        per_segment = model.spec.frames_per_segment
        return video, settle * per_segment, way * per_segment

    def _journey(self, studio: Studio, way: Tensor, away: int) -> Journey:
        """`way` is the walk out, `away` frames, and the walk back."""
        camera = _camera(away)
        ways = [slice(0, away, EVERY), slice(away, 2 * away, EVERY)]
        out, back = (landmarks(read(studio, way[w]), camera[w]) for w in ways)
        places = list(range(0, int(camera.max()) - UNSEEN_PX + 1, PLACE_PX))
        at_out = [_frame_at(p, away, False) for p in places]
        at_back = [_frame_at(p, away, True) for p in places]
        looks = [descriptors(way[at]) if at else torch.zeros(0, 1) for at in (at_out, at_back)]
        return Journey(out, back, *looks)

    def _strips(self, studio: Studio, way: Tensor, away: int, label: str) -> list[Strip]:
        places = torch.linspace(0, away * WALK_PX_PER_FRAME, 9).long()[:-1] // WALK_PX_PER_FRAME
        strips = []
        for late, name in ((False, "way out"), (True, "way back")):
            at = [_frame_at(int(p) * WALK_PX_PER_FRAME, away, late) for p in places]
            sight = read(studio, way[at])
            shots = [
                SheetPicture(way[i], f"{int(p) * WALK_PX_PER_FRAME} px: {_told(sight, k)}")
                for k, (i, p) in enumerate(zip(at, places, strict=True))
            ]
            strips.append(Strip(f"{name}, {label}", shots))
        return strips

    def summarise(self, rows: Mapping[str, Row], studio: Studio) -> Summary:
        return summarise(rows)


def read(studio: Studio, frames: Tensor) -> Sight:
    """What the landmark reader makes of (N, 3, 96, 160) uint8."""
    assert studio.reader is not None
    with torch.no_grad():
        parts = [studio.reader.look(part) for part in frames.split(CHUNK)]
    return Sight(*(torch.cat(list(part)) for part in zip(*parts, strict=True)))


def _in_parts(blurred: Callable[[Tensor], Tensor], video: Tensor) -> Tensor:
    return torch.cat([blurred(part) for part in video.split(4 * CHUNK)])


def _camera(away: int) -> Tensor:
    """Px from the start, for every frame of the way out and back: a frame shows the state after its
    motion."""
    steps = torch.cat([torch.ones(away), -torch.ones(away)])
    return steps.cumsum(0) * WALK_PX_PER_FRAME


def _frame_at(px: int, away: int, back: bool) -> int:
    """The frame of the way that shows the camera at `px`, or the nearest to it."""
    steps = px // WALK_PX_PER_FRAME
    return min(2 * away - 1, 2 * away - steps - 1) if back else max(0, steps - 1)


def _aged(matches: Sequence[Match], turn_px: float) -> list[list[float]]:
    """Of the landmarks that had left the screen, and are not too far at its edge where the way back ends:
    seconds out of sight, found, kind right, colour right."""
    aged = [(age_s(m.x, turn_px), m) for m in matches if m.x >= EDGE_PX - HERO_X]
    return [[round(s, 2), float(m.found), float(m.kind), float(m.colour)] for s, m in aged if s >= 0.5]


def _right(matches: Sequence[Match]) -> float | None:
    """Share of read landmarks that truly stand there, in kind and colour."""
    return sum(m.kind and m.colour for m in matches) / len(matches) if matches else None


def _likeness(own: Journey, other: Journey) -> dict[str, float | None]:
    """Cosines between pictures of the way back and of the way out, at the same place, at other places of the
    same way, and at the same place of another seed's way; and how often the same place wins."""
    out, back = own.looks_out, own.looks_back
    if len(out) < 2:
        return {"same place": None, "other places": None, "another seed": None, "retrieved": None}
    likeness = back @ out.T
    others = ~torch.eye(len(out), dtype=torch.bool)
    return {
        "same place": float(likeness.diagonal().mean()),
        "other places": float(likeness[others].mean()),
        "another seed": float((back * other.looks_out).sum(-1).mean()),
        "retrieved": retrieval(out, back, CHOICES),
    }


def _told(sight: Sight, frame: int) -> str:
    """The landmarks of one frame, for people."""
    one = Sight(*(part[frame : frame + 1].repeat(3, *(1,) * (part.ndim - 1)) for part in sight))
    seen = landmarks(one, torch.full((3,), float(HERO_X)))
    return ", ".join(f"{COLOURS[f.colour]} {LANDMARKS[f.kind]}" for f in seen) or "none seen"


# ---- summary ----


def _pooled(
    found: list[Row], key: str, column: Callable[[list[float]], float], low: float, high: float
) -> list[float]:
    """One share per seed, over its landmarks of that age."""
    rates = []
    for f in found:
        mine = [column(m) for m in f[key] if low <= m[0] < high]
        if mine:
            rates.append(sum(mine) / len(mine))
    return rates


COLUMNS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "found there": lambda m: m[1],
    "kind right": lambda m: m[2],
    "colour right": lambda m: m[3],
    "kind and colour right": lambda m: m[2] * m[3],
}


def _cells(found: list[Row], low: float = 0.0, high: float = 1e9) -> list[Cell]:
    cells: list[Cell] = [share(_pooled(found, "same", c, low, high)) for c in COLUMNS.values()]
    return [*cells, share(_pooled(found, "chance", COLUMNS["kind and colour right"], low, high))]


def summarise(rows: Mapping[str, Row]) -> Summary:
    heads = (*COLUMNS, "chance: kind and colour")
    by_t = Table("landmarks of the way out, by length of the way", heads, percent=True)
    by_age = Table("the same, by time out of sight", heads, percent=True)
    truths = Table(f"the instrument: the same journeys {TRUTH}", (*heads, "read as it is"), percent=True)
    place = Table(
        "pictures of the same place, without any network",
        ("same place", "other places", "another seed", f"same place most alike, of {CHOICES}", TRUTH),
    )
    many: list[str] = []
    lengths = sorted({r["T"] for r in rows.values()})

    def of(t: float | None, rendered: bool) -> list[dict[str, Any]]:
        wanted = pick(rows, rendered=rendered) if t is None else pick(rows, rendered=rendered, T=t)
        return [f for r in wanted for f in r["found"]]

    for t in lengths:
        model, rendered = of(t, False), of(t, True)
        by_t.add(f"T = {t:g} s", _cells(model))
        truths.add(f"T = {t:g} s", [*_cells(rendered), share(_known(rendered, "read right"))])
        alike = [mean(_known(model, k)) for k in ("same place", "other places", "another seed")]
        place.add(f"T = {t:g} s", [*alike, *(mean(_known(f, "retrieved")) for f in (model, rendered))])
        counts = [sum(f["landmarks"] for f in x) / len(x) for x in (model, rendered) if x]
        many.append(f"{t:g} s: " + " against ".join(f"{c:.1f}" for c in counts))
    for low, high in zip((0.5, *AGES_S), AGES_S, strict=False):
        by_age.add(f"{low:g} to {high:g} s", _cells(of(None, False), low, high))
    notes = [
        "Chance: what the way back shows against the way out of another seed under the same prompt.",
        f"Packed history alone reaches back {FRAMEPACK_S:g} s; older landmarks can only come from memory.",
        f"Landmarks read on a way out, model against rendered, {'; '.join(many)}. Few landmarks or a high "
        "chance level mean that there is little to recall.",
        f"Without any network: brightness of cells of 4 px less their mean over the way, cosines; the last "
        f"two columns: how often the picture of the same place is the most alike (chance {1 / CHOICES:.2f}).",
    ]
    return Summary([by_t, by_age, truths, place], notes)


def _known(found: list[dict[str, Any]], key: str) -> list[float]:
    return [f[key] for f in found if f[key] is not None]
