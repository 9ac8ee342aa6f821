"""Few steps: how much adherence and fidelity do fewer denoising steps cost?

Every number of steps plays the same scenes from the same noise, so differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

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
from engine.evaluation.statistics import Features, mean, of_seeds, share

PER_SEED: Final = 2  # scenes


class Steps(Figure):
    name = "steps"
    title = "Few steps"
    about = (
        "The same scenes from the same noise with different numbers of denoising steps, also for the first "
        "segment of a scene. The pictures are the end of each scene, green if all attributes are right."
    )

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        jobs: dict[str, Callable[[], Outcome]] = {}
        key = "-".join(map(str, scale.steps))
        for seed in range(scale.n):
            for i in range(PER_SEED):
                n = seed * PER_SEED + i
                jobs[f"scene-{n:04}-{key}"] = partial(self._scene, bench, n, seed, scale.steps)
        return jobs

    def _scene(self, bench: Bench, number: int, seed: int, steps: tuple[int, ...]) -> Outcome:
        row: Row = {"seed": seed, "steps": {}, "reference": scenes.reference(bench, number)}
        shots, label = [], ""
        for k in steps:
            scene = scenes.play(bench, bench.model, number, k)
            row["steps"][str(k)] = {"right": scene.right(), "features": scene.features}
            right = scene.read[-1] == scene.asked.tolist()
            shots.append(SheetPicture(scene.video[-1], f"{k} steps: {prompts.names(scene.read[-1])}", right))
            label = f"scene {number}: {scene.prompt}\nasked: {prompts.names(scene.asked)}"
        return Outcome(row, [Strip(label, shots)])

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        done = pick(rows)
        counts = sorted({int(k) for r in done for k in r["steps"]})
        most = str(counts[-1]) if counts else ""
        adherence = Table("adherence", ("all named", f"less than in {most} steps"), percent=True)
        fidelity = Table("Fréchet distance, lower is better", ("distance", f"more than in {most} steps"))
        for k in map(str, counts):
            both = [r for r in done if k in r["steps"] and most in r["steps"]]
            own, best = _rates(both, k), _rates(both, most)
            less = None if k == most else mean([b - a for a, b in zip(own, best, strict=True)])
            adherence.add(f"{k} steps", [share(own), less])
            few, many = (
                scenes.by_seed([(r["seed"], r["steps"][s]["features"]) for r in both]) for s in (k, most)
            )
            truth = scenes.by_seed([(r["seed"], r["reference"]) for r in both])
            more = None if k == most else of_seeds(len(few), partial(_excess, few, many, truth))
            fidelity.add(f"{k} steps", [of_seeds(len(few), partial(scenes.distance, few, truth)), more])
        spec = bench.model.spec
        notes = [
            f"As shipped: {spec.steps} steps, {spec.first_steps} for the first segment of a scene. "
            "Differences are paired by scene. The figure `fidelity` has the lower limits, for more scenes."
        ]
        return Summary([adherence, fidelity], notes)


def _excess(few: list[Features], many: list[Features], truth: list[Features], seeds: Sequence[int]) -> float:
    """How much larger the Fréchet distance is in fewer steps."""
    return scenes.distance(few, truth, seeds) - scenes.distance(many, truth, seeds)


def _rates(rows: list[Row], steps: str) -> list[float]:
    """Share of right attributes, one value per seed."""
    groups: dict[int, list[float]] = {}
    for r in rows:
        groups.setdefault(r["seed"], []).append(float(np.mean(r["steps"][steps]["right"])))
    return [float(np.mean(groups[seed])) for seed in sorted(groups)]
