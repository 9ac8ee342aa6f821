"""The measurements behind the table of variants: one long random walk per seed.

Every column of the paper that this world can measure comes from the same video: VBench's formulas over the
whole, adherence, obedience, the distance to the rendered prompt, and the differences between the first and
the last 15 %."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import RECONSTRUCTED, Bench, other_worlds, rounded, script_of, truth
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
from engine.evaluation.figures.drift import pixels, spans
from engine.evaluation.figures.obedience import asked_px
from engine.evaluation.figures.quality import measures
from engine.evaluation.instruments.motion import MOVES_PX, displacement
from engine.evaluation.prompted_scenes import WORLDS, distance
from engine.evaluation.statistics import mean, of_seeds, share
from engine.world.attributes import FPS, FRAMES_PER_LATENT

RUN: Final = 4  # segments of one action
KEPT: Final = 12  # frames of a video whose features are stored
SHARES: Final = ("all named", "right sign", "dynamic")
PLAIN: Final = ("distance", "smoothness", "background", "subject", "sharpness")
ENDS: Final = ("distance", "all named", "background", "subject", "sharpness")


class Walk(Figure):
    """With `rendered`, measures the world itself instead of the model, through the model's autoencoder."""

    name = "walk"
    title = "A walk under one prompt"
    about = (
        "One prompt with all attributes; every two seconds right, left or idle at random. The text under "
        "each picture is what the probe reads."
    )

    def __init__(self, rendered: bool = False) -> None:
        self.rendered = rendered

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        seconds = max(scale.durations_s)
        return {f"{seconds:g}s-{s:03}": partial(self._play, bench, s, seconds) for s in range(scale.n)}

    def _play(self, bench: Bench, seed: int, seconds: float) -> Outcome:
        model = bench.model
        what, prompt, rng = prompts.setting("walk", seed)
        asked = prompts.values(what)
        count = 1 + model.segments(seconds)
        runs = [(RUN, rng.choice(("right", "left", "idle", "right"))) for _ in range(-(-count // RUN))]
        script, actions = script_of(model.spec, runs)
        actions = actions[: count * model.spec.segment]
        if self.rendered:
            video = model.reconstruct(truth(asked, actions, seed))
        else:
            video = model.video(prompt, seed, count, script)
        skip = model.spec.frames_per_segment  # the first segment of a scene has no history
        references = torch.tensor(bench.features(other_worlds(asked, "right", WORLDS, seed)))
        wanted = references.mean(0)
        at = range(skip, skip + round(seconds * FPS))
        row: Row = {"seed": seed, "seconds": seconds, "reference": references.tolist()}
        row["whole"], features = _measure(bench, video, at, asked, actions, wanted)
        row["features"] = rounded(features[torch.linspace(0, len(features) - 1, KEPT).long()])
        row["ends"] = [_measure(bench, video, r, asked, actions, wanted)[0] for r in spans(seconds, skip)]
        looks = torch.linspace(at.start, at.stop - 1, 8).long().tolist()
        read = [bench.look(video[i - FRAMES_PER_LATENT + 1 : i + 1]).values_of(0, 4) for i in looks]
        shots = [
            SheetPicture(video[i], f"{(i - skip) / FPS:.1f} s\n{prompts.names(r)}", r == asked.tolist())
            for i, r in zip(looks, read, strict=True)
        ]
        return Outcome(row, [Strip(f"seed {seed}: {RECONSTRUCTED if self.rendered else prompt}", shots)])

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        done = pick(rows)
        whole, drift = Table("whole videos", ("value",)), Table("first and last 15 %", ("Δ", "last − first"))
        for name, cell in figures(done).items():
            whole.add(name, [cell])
        for name in ENDS:
            first, last = ([r["ends"][i][name] for r in done] for i in (0, 1))
            change = [b - a for a, b in zip(first, last, strict=True)]
            drift.add(name, [mean([abs(c) for c in change]), mean(change)])
        return Summary([whole, drift])


def figures(done: list[Row]) -> dict[str, Any]:
    """Estimates over whole videos by name, with one value per seed."""
    found: dict[str, Any] = {n: share(_known(done, n)) for n in SHARES}
    found |= {n: mean(_known(done, n)) for n in PLAIN}
    own, truth_ = ([np.array(r[k]) for r in done] for k in ("features", "reference"))
    found["Fréchet distance"] = of_seeds(len(done), partial(distance, own, truth_))
    return found


def changes(done: list[Row], name: str) -> list[float]:
    """The paper's |first − last| of one figure, with one value per seed."""
    pairs = [(r["ends"][0][name], r["ends"][1][name]) for r in done]
    return [abs(b - a) for a, b in pairs if a is not None and b is not None]


def _known(done: list[Row], name: str) -> list[float]:
    return [r["whole"][name] for r in done if r["whole"][name] is not None]


def _measure(
    bench: Bench, video: Tensor, at: range, asked: Tensor, actions: Tensor, wanted: Tensor
) -> tuple[dict[str, float | None], Tensor]:
    """All figures of the frames in `at`, which are whole latent frames; and their features in units of
    spread, (F, 224)."""
    frames = video[at.start : at.stop]
    seen, moved = bench.look(frames), displacement(frames)
    keys = actions[at.start // FRAMES_PER_LATENT : at.stop // FRAMES_PER_LATENT]
    px = asked_px(keys)
    along = (moved * px.sign())[px != 0]
    found = measures(bench, frames, seen, moved)
    features = seen.whole / bench.spread
    return {
        "all named": float((seen.values() == asked).float().mean()),
        "right sign": float((along >= MOVES_PX).float().mean()) if len(along) else None,
        "dynamic": found["dynamic"],
        "smoothness": found["motion smoothness"],
        "background": found["background consistency"],
        "subject": found["subject consistency"],
        "sharpness": pixels(frames)["sharpness"],
        "distance": float((features.mean(0) - wanted).pow(2).mean().sqrt()),
    }, features
