"""ELO-K32 between models: a fixed rule compares their videos of the same prompts in pairs.

The ratings depend on the order of the comparisons, so they are averaged over many orders. Their intervals
come from a bootstrap over scenes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from engine.evaluation import prompted_scenes as scenes
from engine.evaluation import prompts
from engine.evaluation.bench import Bench
from engine.evaluation.figure import (
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
from engine.evaluation.figures.fidelity import shots_of
from engine.evaluation.statistics import Estimate, share

START, K = 1500.0, 32.0
ORDERS: Final = 100
RESAMPLES: Final = 100
ORDERS_PER_RESAMPLE: Final = 5
TIE: Final = 1e-9


class VideoScore(NamedTuple):
    """The share of a video's named attributes that the probe reads, and the distance of its features to the
    rendered video of the same prompt."""

    adherence: float
    distance: float


class Game(NamedTuple):
    a: int
    b: int
    score: float  # of a: 1 won, ½ drawn, 0 lost


def game_score(a: VideoScore, b: VideoScore) -> float:
    """a's score against b: half a point for better adherence, half a point for better fidelity, split if
    equal."""
    better = (_sign(a.adherence - b.adherence), _sign(b.distance - a.distance))
    return sum((1 + s) / 4 for s in better)


def _sign(x: float) -> int:
    return 0 if abs(x) < TIE else 1 if x > 0 else -1


def ratings(games: Sequence[Game], players: int) -> list[float]:
    """Ratings after these games in order: E = 1 / (1 + 10^((R_b − R_a)/400)), R += K (S − E)."""
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


def elo(videos: Sequence[Sequence[VideoScore]]) -> list[Estimate]:
    """The scores of all models per scene, in the same order → one rating per model."""
    players = len(videos[0])
    games = [
        [Game(a, b, game_score(v[a], v[b])) for a, b in itertools.combinations(range(players), 2)]
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


class Elo(Figure):
    name = "elo"
    title = "ELO-K32 between models"
    about = (
        "Every model plays the same scenes. Of two videos of a scene, half a point goes to the one in which "
        "the probe reads more of the prompt's attributes, and half a point to the one whose features are "
        "nearer to the rendered video of the same prompt."
    )
    needs_others = True

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        names = [m.name for m in (bench.model, *bench.others)]
        jobs: dict[str, Callable[[], Outcome]] = {}
        for number in range(scale.n):
            jobs[f"scene-{number:04}-{'-'.join(names)}"] = partial(self._scene, bench, number)
        return jobs

    def _scene(self, bench: Bench, number: int) -> Outcome:
        wanted = np.mean(scenes.reference(bench, number), 0)
        row: dict[str, Any] = {"seed": number, "judged": {}}
        shots: list[SheetPicture] = []
        for model in (bench.model, *bench.others):
            scene = scenes.play(bench, model, number)
            gap = np.mean(scene.features, 0) - wanted
            row["judged"][model.name] = [float(np.mean(scene.right())), float(np.sqrt((gap**2).mean()))]
            shots += shots_of(bench, model.name, scene)[-1:]
        rendered = scenes.render(bench, number, reconstructed=False)
        shots += shots_of(bench, "rendered", rendered)[-1:]
        label = f"scene {number}: {rendered.prompt}\nasked: {prompts.names(rendered.asked)}"
        return Outcome(row, [Strip(label, shots)])

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        names = [m.name for m in (bench.model, *bench.others)]
        done = [r["judged"] for r in pick(rows) if set(r["judged"]) == set(names)]
        table = Table("ratings", ("ELO", "distance to rendered video"))
        right = Table("adherence of the same videos", ("all named",), percent=True)
        if done:
            videos = [[VideoScore(*j[name]) for name in names] for j in done]
            for i, (name, rating) in enumerate(zip(names, elo(videos), strict=True)):
                table.add(name, [rating, float(np.mean([v[i].distance for v in videos]))])
                right.add(name, [share([v[i].adherence for v in videos])])
        notes = [
            f"K = 32, starting at 1500, mean over {ORDERS} orders; intervals from a bootstrap over scenes. "
            "31 points are about one game."
        ]
        return Summary([table, right], notes)
