"""Landmarks on a walk: is one that a prompt names there when its place comes in, how many does the reader
recognise, and are the pictures as sharp as the world?

Named and recognised are read by the landmark reader where the actions say the camera is. The rendered world
through the autoencoder is the measure of what can be recognised, and of sharpness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Final

import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import Studio, acted, truth
from engine.evaluation.figure import Jobs, Outcome, Row, Scale, SheetPicture, Strip, Summary, Table, pick
from engine.evaluation.figures.drift import pixels
from engine.evaluation.figures.recall import read
from engine.evaluation.figures.sightings import Found, landmarks
from engine.evaluation.statistics import Estimate, mean, share
from engine.script import Entry
from engine.types import Prompt
from engine.world.attributes import COLOURS, FRAMES_PER_LATENT, LANDMARKS, WALK_PX_PER_FRAME, WIDTH
from engine.world.motion import LATENT_PX

ASKED_AFTER: Final = 4  # segments
WALK: Final = 24  # segments
REACH_PX: Final = round(1.7 * WIDTH)  # where a named landmark stands at most, from the hero
WAYS: Final = ("right", "left")


class Named:
    name = "named"
    title = "Landmarks: named, recognised; sharpness"
    about = (
        "Two seconds after its start a walk is told that a landmark comes into view. Pictures: every second "
        "of it; green where the landmark was there in its kind and colour."
    )
    version = 1
    needs_reader = True
    needs_others = False

    def jobs(self, studio: Studio, scale: Scale) -> Jobs:
        return {f"walk-{seed:03}": partial(self._walk, studio, seed) for seed in range(scale.n)}

    def _walk(self, studio: Studio, seed: int) -> Outcome:
        model, rng = studio.model, Random(f"named {seed}")
        what = prompts.attributes("named", seed)
        said, way = prompts.say(what, rng), WAYS[seed % 2]
        kind, colour = rng.randrange(len(LANDMARKS)), rng.randrange(len(COLOURS))
        asked = f"{said.rstrip('.')}; a {COLOURS[colour]} {LANDMARKS[kind]} comes into view"
        script, actions = acted(model.spec, [(WALK, way)])
        script.append(Entry(ASKED_AFTER * model.spec.segment_s, Prompt(asked)))
        video = model.video(said, seed, WALK, script)
        world = model.blurred(truth(prompts.values(what), actions, seed))
        skip, camera = model.spec.frames_per_segment, camera_px(len(actions), way)
        ours, theirs = (landmarks(read(studio, v[skip:]), camera[skip:]) for v in (video, world))
        here = ASKED_AFTER * model.spec.segment * LATENT_PX * (1 if way == "right" else -1)
        where = sorted((here + side * (1 if way == "right" else -1)) for side in (WIDTH / 2, REACH_PX))
        row: Row = {
            "seed": seed,
            "named": found(ours, where, kind, colour),
            "other": found(ours, where, (kind + 3) % len(LANDMARKS), (colour + 3) % len(COLOURS)),
            "recognised": len(ours),
            "in the world": len(theirs),
            "sharpness": [pixels(v[skip:])["sharpness"] for v in (video, world)],
        }
        looks = range(skip, len(video), 2 * skip)
        shots = [SheetPicture(video[i], "", row["named"]["kind and colour"]) for i in looks]
        return Outcome(row, [Strip(f"seed {seed}: {asked}", shots)])

    def summarise(self, rows: Mapping[str, Row], studio: Studio) -> Summary:
        done = pick(rows)
        named = Table(
            "named in a prompt, there when it comes in", ("named", "another, by chance"), percent=True
        )
        for key in ("kind", "colour", "kind and colour"):
            named.add(key, [share([float(r[which][key]) for r in done]) for which in ("named", "other")])
        seen = Table("to the rendered world through the autoencoder", ("share",), percent=True)
        seen.add("landmarks recognised", [ratio([(r["recognised"], r["in the world"]) for r in done])])
        seen.add("sharpness", [mean([r["sharpness"][0] / r["sharpness"][1] for r in done])])
        return Summary([named, seen])


def found(seen: Sequence[Found], where: Sequence[float], kind: int, colour: int) -> dict[str, bool]:
    """Of the landmarks between two places: is there one of this kind, of this colour, of both?"""
    there = [one for one in seen if where[0] <= one.x <= where[1]]
    return {
        "kind": any(one.kind == kind for one in there),
        "colour": any(one.colour == colour for one in there),
        "kind and colour": any((one.kind, one.colour) == (kind, colour) for one in there),
    }


def camera_px(latents: int, way: str) -> Tensor:
    """Where the camera is in each frame of a steady walk, (4 L,) px from its start."""
    frames = torch.arange(1, latents * FRAMES_PER_LATENT + 1, dtype=torch.float32)
    return frames * WALK_PX_PER_FRAME * (1 if way == "right" else -1)


def ratio(counts: Sequence[tuple[int, int]]) -> Estimate | None:
    """All of the first to all of the second, with an interval from one value per seed."""
    whole = sum(b for _, b in counts) / max(1, len(counts))
    return mean([a / whole for a, _ in counts]) if whole else None
