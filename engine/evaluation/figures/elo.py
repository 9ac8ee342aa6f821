"""ELO-K32 between models: a fixed judge compares their videos of the same prompts, two at a time.

The ratings depend on the order of the comparisons, so they are averaged over many orders, and their intervals
come from drawing scenes with replacement.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from engine.evaluation import prompted_scenes as scenes
from engine.evaluation import prompts
from engine.evaluation.bench import Studio
from engine.evaluation.figure import Jobs, Outcome, Row, Scale, SheetPicture, Strip, Summary, Table, pick
from engine.evaluation.figures.fidelity import shots_of
from engine.evaluation.statistics import Estimate, share

START, K = 1500.0, 32.0
ORDERS: Final = 100
RESAMPLES: Final = 100
ORDERS_PER_RESAMPLE: Final = 5
TIE: Final = 1e-9


class Judged(NamedTuple):
    """One video: share of its named attributes that the probe reads, and how far its features lie from the
    rendered video of the same prompt."""

    adherence: float
    distance: float


class Game(NamedTuple):
    a: int
    b: int
    score: float  # of a: 1 won, ½ drawn, 0 lost


def verdict(a: Judged, b: Judged) -> float:
    """a's score against b: half a point for adherence, half a point for fidelity, shared where equal."""
    better = (_sign(a.adherence - b.adherence), _sign(b.distance - a.distance))
    return sum((1 + s) / 4 for s in better)


def _sign(x: float) -> int:
    return 0 if abs(x) < TIE else 1 if x > 0 else -1


def ratings(games: Sequence[Game], players: int) -> list[float]:
    """Ratings after these games in this order: E = 1 / (1 + 10^((R_b − R_a)/400)), R += 32 (S − E)."""
    r = [START] * players
    for a, b, score in games:
        change = K * (score - 1 / (1 + 10 ** ((r[b] - r[a]) / 400)))
        r[a] += change
        r[b] -= change
    return r


def averaged(games: Sequence[Game], players: int, orders: int, rng: np.random.Generator) -> list[float]:
    """The mean rating over random orders."""
    totals = [0.0] * players
    for _ in range(orders):
        shuffled = [games[i] for i in rng.permutation(len(games))]
        totals = [t + x for t, x in zip(totals, ratings(shuffled, players), strict=True)]
    return [t / orders for t in totals]


def elo(videos: Sequence[Sequence[Judged]]) -> list[Estimate]:
    """The judgements of all models per scene, in the same order → one rating per model."""
    players = len(videos[0])
    games = [
        [Game(a, b, verdict(v[a], v[b])) for a, b in itertools.combinations(range(players), 2)]
        for v in videos
    ]
    rng = np.random.default_rng(0)
    value = averaged(list(itertools.chain(*games)), players, ORDERS, rng)
    again = []
    for _ in range(RESAMPLES):
        drawn = [games[i] for i in rng.integers(0, len(games), len(games))]
        again.append(averaged(list(itertools.chain(*drawn)), players, ORDERS_PER_RESAMPLE, rng))
    low, high = np.percentile(np.array(again), (2.5, 97.5), axis=0)
    return [Estimate(v, float(x), float(y), len(games)) for v, x, y in zip(value, low, high, strict=True)]


class Elo:
    name = "elo"
    title = "ELO-K32 between models"
    about = (
        "Every model plays the same scenes. A fixed judge compares two videos of a scene: half a point for "
        "more of the prompt's attributes read by the probe, half a point for features nearer to the rendered "
        "video of the same prompt."
    )
    version = 1
    needs_reader = False
    needs_others = True

    def jobs(self, studio: Studio, scale: Scale) -> Jobs:
        names = [m.name for m in (studio.model, *studio.others)]
        jobs: dict[str, Callable[[], Outcome]] = {}
        for number in range(scale.n):
            jobs[f"scene-{number:04}-{'-'.join(names)}"] = partial(self._scene, studio, number)
        return jobs

    def _scene(self, studio: Studio, number: int) -> Outcome:
        wanted = np.mean(scenes.reference(studio, number), 0)
        row: dict[str, Any] = {"seed": number, "judged": {}}
        shots: list[SheetPicture] = []
        for model in (studio.model, *studio.others):
            scene = scenes.play(studio, model, number)
            gap = np.mean(scene.features, 0) - wanted
            row["judged"][model.name] = [float(np.mean(scene.right())), float(np.sqrt((gap**2).mean()))]
            shots += shots_of(studio, model.name, scene)[-1:]
        rendered = scenes.render(studio, number, blurred=False)
        shots += shots_of(studio, "rendered", rendered)[-1:]
        label = f"scene {number}: {rendered.said}\nasked: {prompts.names(rendered.asked)}"
        return Outcome(row, [Strip(label, shots)])

    def summarise(self, rows: Mapping[str, Row], studio: Studio) -> Summary:
        names = [m.name for m in (studio.model, *studio.others)]
        done = [r["judged"] for r in pick(rows) if set(r["judged"]) == set(names)]
        table = Table("ratings", ("ELO", "distance to rendered video"))
        right = Table("adherence of the same videos", ("all named",), percent=True)
        if done:
            videos = [[Judged(*j[name]) for name in names] for j in done]
            for i, (name, rating) in enumerate(zip(names, elo(videos), strict=True)):
                table.add(name, [rating, float(np.mean([v[i].distance for v in videos]))])
                right.add(name, [share([v[i].adherence for v in videos])])
        notes = [
            f"K = 32 from 1500, mean over {ORDERS} orders; intervals from drawing scenes with replacement. "
            "31 points are about one game."
        ]
        return Summary([table, right], notes)
