"""Few steps: what do fewer denoising steps cost in adherence and fidelity?

The same scenes from the same noise at every number of steps, so differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from engine.evaluation import prompted_scenes as scenes
from engine.evaluation import prompts
from engine.evaluation.bench import Studio
from engine.evaluation.figure import Jobs, Outcome, Row, Scale, SheetPicture, Strip, Summary, Table, pick
from engine.evaluation.statistics import Features, mean, of_seeds, share

PER_SEED: Final = 2  # scenes


class Steps:
    name = "steps"
    title = "Few steps"
    about = (
        "The same scenes from the same noise in fewer and more denoising steps (the first segment of a scene "
        "in as many as the others). Pictures: the end of each scene; green where all attributes are right."
    )
    version = 1
    needs_reader = False
    needs_others = False

    def jobs(self, studio: Studio, scale: Scale) -> Jobs:
        jobs: dict[str, Callable[[], Outcome]] = {}
        key = "-".join(map(str, scale.steps))
        for seed in range(scale.n):
            for i in range(PER_SEED):
                n = seed * PER_SEED + i
                jobs[f"scene-{n:04}-{key}"] = partial(self._scene, studio, n, seed, scale.steps)
        return jobs

    def _scene(self, studio: Studio, number: int, seed: int, steps: tuple[int, ...]) -> Outcome:
        row: Row = {"seed": seed, "steps": {}, "reference": scenes.reference(studio, number)}
        shots, label = [], ""
        for k in steps:
            scene = scenes.play(studio, studio.model, number, k)
            row["steps"][str(k)] = {"right": scene.right(), "features": scene.features}
            right = scene.read[-1] == scene.asked.tolist()
            shots.append(SheetPicture(scene.video[-1], f"{k} steps: {prompts.names(scene.read[-1])}", right))
            label = f"scene {number}: {scene.said}\nasked: {prompts.names(scene.asked)}"
        return Outcome(row, [Strip(label, shots)])

    def summarise(self, rows: Mapping[str, Row], studio: Studio) -> Summary:
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

            more = None if k == most else of_seeds(len(few), partial(_further, few, many, truth))
            fidelity.add(f"{k} steps", [of_seeds(len(few), partial(scenes.distance, few, truth)), more])
        spec = studio.model.spec
        notes = [
            f"As shipped: {spec.steps} steps, {spec.first_steps} for the first segment of a scene. "
            "Differences are paired by scene; its floors stand under fidelity, for more scenes."
        ]
        return Summary([adherence, fidelity], notes)


def _further(few: list[Features], many: list[Features], truth: list[Features], seeds: Sequence[int]) -> float:
    return scenes.distance(few, truth, seeds) - scenes.distance(many, truth, seeds)


def _rates(rows: list[Row], steps: str) -> list[float]:
    """Share of right attributes, one value per seed."""
    groups: dict[int, list[float]] = {}
    for r in rows:
        groups.setdefault(r["seed"], []).append(float(np.mean(r["steps"][steps]["right"])))
    return [float(np.mean(groups[seed])) for seed in sorted(groups)]
