"""Recall: after T seconds out and T seconds back, are the landmarks that were passed still there?

A network reads the landmarks (`engine.evaluation.instruments.landmark_reader`). A second measure needs no
network: how similar the pictures of the same place are on the way out and on the way back. Seeds come in
pairs that share a prompt; the way back of one against the way out of the other gives the chance level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import CHUNK, RECONSTRUCTED, Bench, script_of, truth
from engine.evaluation.figure import (
    Cell,
    Figure,
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
    Match,
    Sighting,
    compare,
    descriptors,
    landmarks,
    retrieval,
    true_landmarks,
)
from engine.evaluation.instruments.landmark_reader import ColumnReading
from engine.evaluation.statistics import mean, share
from engine.world.attributes import COLOURS, FPS, HERO_X, LANDMARKS, WALK_PX_PER_FRAME

SETTLE_S: Final = 1.0  # the first segments of a scene have no history
EVERY: Final = 2  # every second frame is read
PLACE_PX: Final = 32  # distance between the places whose pictures are compared
CHOICES: Final = 8
EDGE_PX: Final = 48
UNSEEN_PX: Final = 96  # a place this far from the turn has been out of the picture for at least 3 s
WALK_PX_PER_S: Final = WALK_PX_PER_FRAME * FPS
AGES_S: Final = (2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
FRAMEPACK_S: Final = 4.75  # seconds in 19 latent frames of history


class Journey(NamedTuple):
    """What is read on the way out and on the way back, which have the same length."""

    out: list[Sighting]
    back: list[Sighting]
    looks_out: Tensor  # (P, D) at places in order
    looks_back: Tensor


def age_s(x: float, turn_px: float) -> float:
    """Seconds that a landmark at x is off the screen before it comes back, with the turn at `turn_px`."""
    return 2 * (turn_px - x - HERO_X) / WALK_PX_PER_S


class Recall(Figure):
    name = "recall"
    title = "Recall on the way back"
    about = (
        "Out to the right for T seconds, then back for T seconds. For each landmark that left the screen: is "
        "there one again, of the same kind, of the same colour? Upper strip: the way out; lower strip: the "
        "way back, with the same places below each other and what the reader sees there."
    )
    needs_reader = True

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        jobs: dict[str, Callable[[], Outcome]] = {}
        for t in scale.journeys_s:
            for pair in range((scale.n + 1) // 2):
                jobs[f"{t:g}s-{pair:03}"] = partial(self._pair, bench, t, pair, False)
            if t <= 20:
                for pair in range((scale.truths + 1) // 2):
                    jobs[f"{t:g}s-{pair:03}-truth"] = partial(self._pair, bench, t, pair, True)
        return jobs

    def _pair(self, bench: Bench, seconds: float, pair: int, rendered: bool) -> Outcome:
        what, prompt, _ = prompts.setting("recall", pair)
        strips: list[Strip] = []
        journeys = []
        for seed in (2 * pair, 2 * pair + 1):
            video, settled, away = self._video(bench, seconds, seed, what, prompt, rendered)
            journeys.append(self._journey(bench, video[settled:], away))
            if not strips:
                source = RECONSTRUCTED if rendered else prompt
                strips = self._strips(bench, video[settled:], away, f"{seconds:g} s, seed {seed}: {source}")
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
                found[-1]["read right"] = _right(compare(j.out, true_landmarks(way, 2 * pair + i)))
        return Outcome({"T": seconds, "seed": pair, "rendered": rendered, "found": found}, strips)

    def _video(
        self, bench: Bench, seconds: float, seed: int, what: prompts.Attributes, prompt: str, rendered: bool
    ) -> tuple[Tensor, int, int]:
        """The video, the number of its frames before the journey, and the number of frames of one way."""
        model = bench.model
        settle, way = model.segments(SETTLE_S), model.segments(seconds)
        script, actions = script_of(model.spec, [(settle, "idle"), (way, "right"), (way, "left")])
        if rendered:
            video = _in_parts(model.reconstruct, truth(prompts.values(what), actions, seed))
        else:
            video = model.video(prompt, seed, settle + 2 * way, script)
        per_segment = model.spec.frames_per_segment
        return video, settle * per_segment, way * per_segment

    def _journey(self, bench: Bench, way: Tensor, away: int) -> Journey:
        """`way` (2 `away`, 3, 96, 160) is the walk out and the walk back."""
        camera = _camera(away)
        ways = [slice(0, away, EVERY), slice(away, 2 * away, EVERY)]
        out, back = (landmarks(read(bench, way[w]), camera[w]) for w in ways)
        places = list(range(0, int(camera.max()) - UNSEEN_PX + 1, PLACE_PX))
        at_out = [_frame_at(p, away, False) for p in places]
        at_back = [_frame_at(p, away, True) for p in places]
        looks = [descriptors(way[at]) if at else torch.zeros(0, 1) for at in (at_out, at_back)]
        return Journey(out, back, *looks)

    def _strips(self, bench: Bench, way: Tensor, away: int, label: str) -> list[Strip]:
        places = torch.linspace(0, away * WALK_PX_PER_FRAME, 9).long()[:-1] // WALK_PX_PER_FRAME
        strips = []
        for late, name in ((False, "way out"), (True, "way back")):
            at = [_frame_at(int(p) * WALK_PX_PER_FRAME, away, late) for p in places]
            reading = read(bench, way[at])
            shots = [
                SheetPicture(way[i], f"{int(p) * WALK_PX_PER_FRAME} px: {_text(reading, k)}")
                for k, (i, p) in enumerate(zip(at, places, strict=True))
            ]
            strips.append(Strip(f"{name}, {label}", shots))
        return strips

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        return summarise(rows)


def read(bench: Bench, frames: Tensor) -> ColumnReading:
    """The landmark reader's output for frames (N, 3, 96, 160) uint8."""
    assert bench.reader is not None
    with torch.no_grad():
        parts = [bench.reader.look(part) for part in frames.split(CHUNK)]
    return ColumnReading(*(torch.cat(list(part)) for part in zip(*parts, strict=True)))


def _in_parts(reconstruct: Callable[[Tensor], Tensor], video: Tensor) -> Tensor:
    return torch.cat([reconstruct(part) for part in video.split(4 * CHUNK)])


def _camera(away: int) -> Tensor:
    """The camera's position in px from the start, for every frame of the way out and back. A frame shows the
    state after its motion."""
    steps = torch.cat([torch.ones(away), -torch.ones(away)])
    return steps.cumsum(0) * WALK_PX_PER_FRAME


def _frame_at(px: int, away: int, back: bool) -> int:
    """The frame whose camera is at `px` or nearest to it."""
    steps = px // WALK_PX_PER_FRAME
    return min(2 * away - 1, 2 * away - steps - 1) if back else max(0, steps - 1)


def _aged(matches: Sequence[Match], turn_px: float) -> list[list[float]]:
    """Seconds out of sight, found, kind right, colour right: for each landmark that had left the screen and
    is not too close to its edge at the end of the way back."""
    aged = [(age_s(m.x, turn_px), m) for m in matches if m.x >= EDGE_PX - HERO_X]
    return [[round(s, 2), float(m.found), float(m.kind), float(m.colour)] for s, m in aged if s >= 0.5]


def _right(matches: Sequence[Match]) -> float | None:
    """Share of the landmarks read whose kind and colour are those of the world."""
    return sum(m.kind and m.colour for m in matches) / len(matches) if matches else None


def _likeness(own: Journey, other: Journey) -> dict[str, float | None]:
    """Cosines between pictures of the way back and of the way out: at the same place, at other places of the
    same way, and at the same place of another seed's way. And how often the same place is the most
    similar."""
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


def _text(reading: ColumnReading, frame: int) -> str:
    """The landmarks of one frame, for people to read."""
    one = ColumnReading(*(part[frame : frame + 1].repeat(3, *(1,) * (part.ndim - 1)) for part in reading))
    seen = landmarks(one, torch.full((3,), float(HERO_X)))
    return ", ".join(f"{COLOURS[f.colour]} {LANDMARKS[f.kind]}" for f in seen) or "none seen"


# ---- summary ----


def _pooled(
    found: list[Row], key: str, column: Callable[[list[float]], float], low: float, high: float
) -> list[float]:
    """One share per seed, over its landmarks that were out of sight for `low` to `high` seconds."""
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
    truths = Table(
        f"the instrument: the same journeys {RECONSTRUCTED}", (*heads, "read as it is"), percent=True
    )
    place = Table(
        "pictures of the same place, without any network",
        ("same place", "other places", "another seed", f"same place most alike, of {CHOICES}", RECONSTRUCTED),
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
        "Chance: the way back compared with the way out of another seed under the same prompt.",
        f"Packed history alone reaches back {FRAMEPACK_S:g} s; older landmarks can only come from memory.",
        f"Landmarks read on a way out, model against rendered: {'; '.join(many)}. Few landmarks or a high "
        "chance level mean that there is little to recall.",
        "Without any network: cosines of the brightness of 4 px cells, minus its mean over the way. The last "
        "two columns say how often the picture of the same place is the most similar (chance "
        f"{1 / CHOICES:.2f}).",
    ]
    return Summary([by_t, by_age, truths, place], notes)


def _known(found: list[dict[str, Any]], key: str) -> list[float]:
    return [f[key] for f in found if f[key] is not None]
