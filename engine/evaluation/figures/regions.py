"""Where a segment's error is: two-step samples against the truth, under the true history, by part of the
picture.

A session's state is fed rendered segments in place of its own. Then it samples the next one, whose truth is
known but for what comes into view. Errors are mean squares of normalised latents.

Legend: L latent frames, W latent frames of a segment, C channels, h w latent size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from engine.errors import ModelFilesError
from engine.evaluation import prompts
from engine.evaluation.bench import Bench, Model, script_of, truth
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
from engine.evaluation.statistics import Estimate, mean, of_seeds
from engine.model.pixels import to_bytes, to_unit
from engine.world.attributes import FRAMES_PER_LATENT, WALK_PX_PER_FRAME
from engine.world.drawing.landmarks import plan

PAST: Final = 15  # segments of the true history
NOISES: Final = {"history noise 0.05": 0.05, "as served": None}
BESIDE: Final = slice(5, 10)  # columns that the hero has just uncovered, or covers
MOTIONS: Final = {"standing": "idle", "walking": "right"}
REGIONS: Final = ("standing", "known, walking", "beside the hero, walking", "new, walking")
PLANNED: Final = 8  # landmarks told to the model; more than such a walk can meet


class Regions(Figure):
    name = "regions"
    title = "Error by region, under the true history"
    about = (
        "Per scene, standing and walking right: the last picture of the true history, the picture that "
        "follows, through the autoencoder, and the model's."
    )

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        return {f"scene-{seed:03}": partial(self._scene, bench, seed) for seed in range(scale.n)}

    def _scene(self, bench: Bench, seed: int) -> Outcome:
        model = bench.model
        row: Row = {"seed": seed}
        shots = []
        for motion, action in MOTIONS.items():
            past, after, made = following(model, seed, action)
            row[motion] = {name: measured(x, after, action) for name, x in made.items()}
            shots += pictures(model, past, after, made["as served"], motion)
        prompt = prompts.setting("regions", seed).prompt
        return Outcome(row, [Strip(f"seed {seed}: {prompt}", shots)])

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        done = pick(rows)
        table = Table("mean squared error of latents", tuple(NOISES))
        for region in REGIONS:
            motion = "standing" if region == "standing" else "walking"
            cells = [mean([r[motion][noise]["errors"][region] for r in done]) for noise in NOISES]
            table.add(region, cells)
        spread = Table("variance of samples, relative to the truth's", tuple(NOISES), percent=True)
        spread.add("new columns, walking", [variance([r["walking"][n]["new"] for r in done]) for n in NOISES])
        notes = ["The true latents' variance is " + ", ".join(self._truths(done)) + "."] if done else []
        return Summary([table, spread], notes)

    @staticmethod
    def _truths(done: Sequence[Row]) -> list[str]:
        noise = next(iter(NOISES))
        every = {m: [r[m][noise]["truth"] for r in done] for m in MOTIONS}
        found = {m: pooled(sums) for m, sums in every.items()}
        found["in new columns"] = pooled([r["walking"][noise]["new"]["truth"] for r in done])
        return [f"{value:.2f} {name}" for name, value in found.items()]


def following(model: Model, seed: int, action: str) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The true past of a scene (L, C, h, w), the true segment after it, and the model's version of it for
    each of NOISES, (W, C, h, w). Raises ModelFilesError for a model that cannot continue a given past."""
    if model.follow is None:
        raise ModelFilesError(f"{model.name} cannot continue a given past", field="model")
    what, prompt, _ = prompts.setting("regions", seed)
    _, actions = script_of(model.spec, [(PAST + 1, action)])
    with torch.no_grad():
        video = truth(prompts.values(what), actions, seed)
        latents = model.autoencoder.encode(to_unit(video[None]))[0]
    step = {"right": 1, "left": -1}.get(action, 0) * WALK_PX_PER_FRAME
    camera = step * torch.arange(1.0, 1.0 + len(video))[None]
    marks = plan(camera, torch.tensor([seed]), PLANNED)[0]
    past = latents[: PAST * model.spec.segment]
    made = {
        name: model.follow(prompt, seed=seed, past=past, actions=actions, landmarks=marks, noise=noise)
        for name, noise in NOISES.items()
    }
    return past, latents[len(past) :], made


def regions(shape: Sequence[int], action: str) -> dict[str, Tensor]:
    """For latents of this shape (W, C, h, w), which columns belong to each region: (W, w) bool. A walk to the
    right brings in a column per latent frame."""
    frames, width = shape[0], shape[-1]
    column = torch.arange(width).expand(frames, width)
    if action == "idle":
        return {REGIONS[0]: torch.ones_like(column, dtype=torch.bool)}
    new = column >= width - 1 - torch.arange(frames)[:, None]
    beside = (column >= BESIDE.start) & (column < BESIDE.stop)
    return dict(zip(REGIONS[1:], (~new & ~beside, beside, new), strict=True))


def measured(made: Tensor, after: Tensor, action: str) -> dict[str, Any]:
    """Errors by region, and the moments of the truth, and of sample and truth in new columns."""
    error = (made - after).pow(2).mean((1, 2))  # (W, w)
    where = regions(after.shape, action)
    out: dict[str, Any] = {
        "errors": {name: float(error[mask].mean()) for name, mask in where.items()},
        "truth": moments(after),
    }
    if (new := where.get(REGIONS[3])) is not None:
        cells = new[:, None, None].expand(after.shape)
        out["new"] = {"sample": moments(made[cells]), "truth": moments(after[cells])}
    return out


def moments(values: Tensor) -> list[float]:
    """Number, sum and sum of squares."""
    return [float(values.numel()), float(values.sum()), float(values.pow(2).sum())]


def pooled(parts: Sequence[Sequence[float]]) -> float:
    """The variance of all values, from their moments."""
    count, total, squares = np.sum(np.asarray(parts, np.float64), 0)
    return float(squares / count - (total / count) ** 2)


def variance(rows: Sequence[Mapping[str, Sequence[float]]]) -> Estimate | None:
    """The variance of samples, relative to the truth's."""

    def over(seeds: Sequence[int]) -> float:
        return pooled([rows[i]["sample"] for i in seeds]) / pooled([rows[i]["truth"] for i in seeds])

    return of_seeds(len(rows), over)


@torch.no_grad()
def pictures(model: Model, past: Tensor, after: Tensor, made: Tensor, motion: str) -> list[SheetPicture]:
    """The last pictures of the past, of what follows, and of the model's version."""
    shots = []
    for label, latents, before in (
        (f"{motion}: before", past[-1:], past[-2:-1]),
        ("after", after, past[-1:]),
        ("model", made, past[-1:]),
    ):
        frames, _ = model.autoencoder.decode(latents[None], before)
        shots.append(SheetPicture(to_bytes(frames[0])[len(latents) * FRAMES_PER_LATENT - 1], label))
    return shots
