"""Fidelity: how far are generated frames from rendered ones, as the probe's features see them?

The Fréchet distance is never zero for few frames, so two floors stand beside it, of as many frames: rendered
frames of other worlds, and the same through the autoencoder, below which no generator that uses it can come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from engine.evaluation import prompted_scenes as scenes
from engine.evaluation import prompts
from engine.evaluation.bench import Studio
from engine.evaluation.figure import Jobs, Outcome, Row, Scale, SheetPicture, Strip, Summary, Table, pick
from engine.evaluation.prompted_scenes import LOOKED_AT, PromptedScene
from engine.evaluation.statistics import of_seeds

PER_SEED: Final = 4  # scenes
SOURCES: Final = ("model", "rendered", "rendered, through the autoencoder")


class Fidelity:
    name = "fidelity"
    title = "Fidelity to rendered video"
    about = (
        "Fréchet distance between the probe's features of generated frames and of rendered frames. On the "
        "right of each scene: the same prompt rendered, and that after the autoencoder. Under each picture "
        "is what the probe reads there."
    )
    version = 1
    needs_reader = False
    needs_others = False

    def jobs(self, studio: Studio, scale: Scale) -> Jobs:
        jobs: dict[str, Callable[[], Outcome]] = {}
        for seed in range(scale.n):
            for i in range(PER_SEED):
                number = seed * PER_SEED + i
                jobs[f"scene-{number:04}"] = partial(self._scene, studio, number, seed)
        return jobs

    def _scene(self, studio: Studio, number: int, seed: int) -> Outcome:
        shown = {
            "model": scenes.play(studio, studio.model, number),
            "rendered": scenes.render(studio, number, blurred=False),
            SOURCES[2]: scenes.render(studio, number, blurred=True),
        }
        row: Row = {
            "seed": seed,
            "features": {source: scene.features for source, scene in shown.items()},
            "reference": scenes.reference(studio, number),
        }
        model, clean, soft = shown.values()
        shots = [
            *shots_of(studio, "model", model),
            *shots_of(studio, SOURCES[1], clean)[-1:],
            *shots_of(studio, SOURCES[2], soft)[-1:],
        ]
        label = f"scene {number}: {model.said}\nasked: {prompts.names(model.asked)}"
        return Outcome(row, [Strip(label, shots)])

    def summarise(self, rows: Mapping[str, Row], studio: Studio) -> Summary:
        done = pick(rows)
        table = Table("Fréchet distance, lower is better", ("distance", "frames"))
        references = scenes.by_seed([(r["seed"], r["reference"]) for r in done])
        for source in SOURCES:
            own = scenes.by_seed([(r["seed"], r["features"][source]) for r in done])
            value = of_seeds(len(own), partial(scenes.distance, own, references))
            table.add(source, [value, float(sum(len(f) for f in own))])
        notes = [
            f"Against frames of {scenes.WORLDS} other worlds under each prompt. The rows below the model's "
            "are floors: what rendered frames are apart from other rendered frames by their small number, "
            "and what the autoencoder adds. Features of all the probe's stages, means over the picture, in "
            "units of their spread over the world. Intervals: ± 1.96 bootstrap standard errors over seeds."
        ]
        return Summary([table], notes)


def shots_of(studio: Studio, name: str, scene: PromptedScene) -> list[SheetPicture]:
    """The last frame of each segment of LOOKED_AT, under what the probe reads in it."""
    shots = []
    for s, read in zip(LOOKED_AT, scene.read, strict=True):
        end = (s + 1) * studio.model.spec.frames_per_segment
        text = f"{name}, segment {s + 1}:\n{prompts.names(read)}"
        shots.append(SheetPicture(scene.video[end - 1], text, read == scene.asked.tolist()))
    return shots
