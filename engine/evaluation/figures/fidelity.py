"""Fidelity: how far are generated frames from rendered ones, in the probe's features?

The Fréchet distance of few frames is never zero. So it is shown beside two lower limits for the same number
of frames: rendered frames of other worlds, and those after the autoencoder, which limits every model that
uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from engine.evaluation import prompted_scenes as scenes
from engine.evaluation import prompts
from engine.evaluation.bench import SOURCES, Bench
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
from engine.evaluation.prompted_scenes import SAMPLED, PromptedScene
from engine.evaluation.statistics import of_seeds

PER_SEED: Final = 4  # scenes


class Fidelity(Figure):
    name = "fidelity"
    title = "Fidelity to rendered video"
    about = (
        "Fréchet distance between the probe's features of generated and of rendered frames. On the right of "
        "each scene: the same prompt rendered, before and after the autoencoder. The text under each picture "
        "is what the probe reads."
    )

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        jobs: dict[str, Callable[[], Outcome]] = {}
        for seed in range(scale.n):
            for i in range(PER_SEED):
                number = seed * PER_SEED + i
                jobs[f"scene-{number:04}"] = partial(self._scene, bench, number, seed)
        return jobs

    def _scene(self, bench: Bench, number: int, seed: int) -> Outcome:
        shown = {
            "model": scenes.play(bench, bench.model, number),
            "rendered": scenes.render(bench, number, reconstructed=False),
            SOURCES[2]: scenes.render(bench, number, reconstructed=True),
        }
        row: Row = {
            "seed": seed,
            "features": {source: scene.features for source, scene in shown.items()},
            "reference": scenes.reference(bench, number),
        }
        model, clean, soft = shown.values()
        shots = [
            *shots_of(bench, "model", model),
            *shots_of(bench, SOURCES[1], clean)[-1:],
            *shots_of(bench, SOURCES[2], soft)[-1:],
        ]
        label = f"scene {number}: {model.prompt}\nasked: {prompts.names(model.asked)}"
        return Outcome(row, [Strip(label, shots)])

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        done = pick(rows)
        table = Table("Fréchet distance, lower is better", ("distance", "frames"))
        references = scenes.by_seed([(r["seed"], r["reference"]) for r in done])
        for source in SOURCES:
            own = scenes.by_seed([(r["seed"], r["features"][source]) for r in done])
            value = of_seeds(len(own), partial(scenes.distance, own, references))
            table.add(source, [value, float(sum(len(f) for f in own))])
        notes = [
            f"Compared with frames of {scenes.WORLDS} other worlds under each prompt. The rows below the "
            "model's are lower limits: the distance between equally few rendered frames, and what the "
            "autoencoder adds. Features of all the probe's stages, averaged over the picture, in units of "
            "their spread over the world. Intervals: ± 1.96 bootstrap standard errors over seeds."
        ]
        return Summary([table], notes)


def shots_of(bench: Bench, name: str, scene: PromptedScene) -> list[SheetPicture]:
    """The last frame of each segment in SAMPLED, with what the probe reads in it."""
    shots = []
    for s, read in zip(SAMPLED, scene.read, strict=True):
        end = (s + 1) * bench.model.spec.frames_per_segment
        text = f"{name}, segment {s + 1}:\n{prompts.names(read)}"
        shots.append(SheetPicture(scene.video[end - 1], text, read == scene.asked.tolist()))
    return shots
