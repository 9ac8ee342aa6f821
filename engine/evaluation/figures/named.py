"""Landmarks on a walk: does a landmark that a prompt names appear, how many does the reader recognise, and
are the pictures as sharp as the world?

The landmark reader reads the pictures; the actions give the camera's position. The rendered world after the
autoencoder is the reference for recognition and sharpness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import Bench, script_of, truth
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
from engine.evaluation.figures.drift import pixels
from engine.evaluation.figures.recall import read
from engine.evaluation.figures.sightings import Sighting, landmarks
from engine.evaluation.statistics import Estimate, mean, share
from engine.script import Entry
from engine.types import Prompt
from engine.world.attributes import COLOURS, FRAMES_PER_LATENT, LANDMARKS, WALK_PX_PER_FRAME, WIDTH
from engine.world.motion import LATENT_PX

ASKED_AFTER: Final = 4  # segments
SEGMENTS: Final = 24  # of a walk
REACH_PX: Final = round(1.7 * WIDTH)  # the largest distance of a named landmark from the hero
WAYS: Final = ("right", "left")


class Named(Figure):
    name = "named"
    title = "Landmarks: named, recognised; sharpness"
    about = (
        "Two seconds into a walk, a prompt says that a landmark comes into view. One picture per second, "
        "green if the landmark appeared in its kind and colour."
    )
    needs_reader = True

    def __init__(self, segments: int = SEGMENTS) -> None:
        """`segments` is the length of a walk."""
        self.segments = segments

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        return {f"walk-{seed:03}": partial(self._walk, bench, seed) for seed in range(scale.n)}

    def _walk(self, bench: Bench, seed: int) -> Outcome:
        model, way = bench.model, WAYS[seed % 2]
        what, prompt, rng = prompts.setting("named", seed)
        kind, colour = rng.randrange(len(LANDMARKS)), rng.randrange(len(COLOURS))
        asked = f"{prompt.rstrip('.')}; a {COLOURS[colour]} {LANDMARKS[kind]} comes into view"
        script, actions = script_of(model.spec, [(self.segments, way)])
        script.append(Entry(ASKED_AFTER * model.spec.segment_s, Prompt(asked)))
        video = model.video(prompt, seed, self.segments, script)
        world = model.reconstruct(truth(prompts.values(what), actions, seed))
        skip, camera = model.spec.frames_per_segment, camera_px(len(actions), way)
        ours, theirs = (landmarks(read(bench, v[skip:]), camera[skip:]) for v in (video, world))
        here = ASKED_AFTER * model.spec.segment * LATENT_PX * (1 if way == "right" else -1)
        where = sorted((here + side * (1 if way == "right" else -1)) for side in (WIDTH / 2, REACH_PX))
        row: Row = {
            "seed": seed,
            "named": appears(ours, where, kind, colour),
            "other": appears(ours, where, (kind + 3) % len(LANDMARKS), (colour + 3) % len(COLOURS)),
            "recognised": len(ours),
            "in the world": len(theirs),
            "sharpness": [pixels(v[skip:])["sharpness"] for v in (video, world)],
        }
        looks = range(skip, len(video), 2 * skip)
        shots = [SheetPicture(video[i], "", row["named"]["kind and colour"]) for i in looks]
        return Outcome(row, [Strip(f"seed {seed}: {asked}", shots)])

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        done = pick(rows)
        named = Table(
            "landmarks named in a prompt that appear", ("named", "another, by chance"), percent=True
        )
        for key in ("kind", "colour", "kind and colour"):
            named.add(key, [share([float(r[which][key]) for r in done]) for which in ("named", "other")])
        seen = Table("relative to the rendered world, through the autoencoder", ("share",), percent=True)
        seen.add("landmarks recognised", [ratio([(r["recognised"], r["in the world"]) for r in done])])
        seen.add("sharpness", [mean([r["sharpness"][0] / r["sharpness"][1] for r in done])])
        return Summary([named, seen])


def appears(seen: Sequence[Sighting], where: Sequence[float], kind: int, colour: int) -> dict[str, bool]:
    """Whether a landmark between two places, in px, has this kind, this colour, or both."""
    there = [one for one in seen if where[0] <= one.x <= where[1]]
    return {
        "kind": any(one.kind == kind for one in there),
        "colour": any(one.colour == colour for one in there),
        "kind and colour": any((one.kind, one.colour) == (kind, colour) for one in there),
    }


def camera_px(latents: int, way: str) -> Tensor:
    """The camera's position in each frame of a steady walk, (4 L,) px from its start."""
    frames = torch.arange(1, latents * FRAMES_PER_LATENT + 1, dtype=torch.float32)
    return frames * WALK_PX_PER_FRAME * (1 if way == "right" else -1)


def ratio(counts: Sequence[tuple[int, int]]) -> Estimate | None:
    """The sum of the first counts over the sum of the second, with an interval over seeds."""
    whole = sum(b for _, b in counts) / max(1, len(counts))
    return mean([a / whole for a, _ in counts]) if whole else None
