"""Obedience: does the camera go where the actions say, at the right speed?

The camera's motion is estimated from the pictures (`engine.evaluation.instruments.motion`). The estimator's
own accuracy is measured on rendered worlds of every place, weather and time, whose camera is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from random import Random
from typing import Final

import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import SOURCES, Bench, script_of, truth
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
from engine.evaluation.instruments.motion import MOVES_PX, displacement
from engine.evaluation.statistics import Estimate, mean, share
from engine.world.attributes import ACTIONS, FPS, FRAMES_PER_LATENT, PLACES, TIMES, WEATHERS
from engine.world.motion import LATENT_PX, LEFT, RIGHT

SEGMENTS: Final = 20
THOROUGH: Final = 10  # with this many seeds, the estimator is validated at every time of day
SURE: Final = 0.99
LATENTS_PER_S: Final = FPS / FRAMES_PER_LATENT
WALK_PX_PER_S: Final = LATENT_PX * LATENTS_PER_S


def asked_px(actions: Tensor) -> Tensor:
    """Actions (L,) → the requested motion of the camera in each latent frame, (L,) px."""
    return LATENT_PX * ((actions == RIGHT).float() - (actions == LEFT).float())


def compare(moved: Tensor, actions: Tensor) -> dict[str, float | None]:
    """Compare measured px per latent frame (L,) with actions (L,). None for figures whose actions did not
    occur."""
    asked = asked_px(actions)
    walks, fresh = asked != 0, torch.cat([actions[:1] < 0, actions[1:] != actions[:-1]])
    along = moved * asked.sign()

    def of(values: Tensor, which: Tensor) -> float | None:
        return float(values[which].float().mean()) if bool(which.any()) else None

    return {
        "sign": of(along >= MOVES_PX, walks),
        "sign, first latent frame left out": of(along >= MOVES_PX, walks & ~fresh),
        "still when asked to stand": of(moved.abs() < MOVES_PX, ~walks),
        "right, px/s": of(moved * LATENTS_PER_S, actions == RIGHT),
        "left, px/s": of(-moved * LATENTS_PER_S, actions == LEFT),
        "error walking, px/s": of((moved - asked).abs() * LATENTS_PER_S, walks),
        "error standing, px/s": of(moved.abs() * LATENTS_PER_S, ~walks),
    }


SHARES: Final = {
    "sign": "right sign when asked to walk",
    "sign, first latent frame left out": "the same, the first latent frame after a change of action left out",
    "still when asked to stand": "still when asked to stand or jump",
}
SPEEDS: Final = {
    "right, px/s": f"speed to the right ({WALK_PX_PER_S:g} asked)",
    "left, px/s": f"speed to the left ({WALK_PX_PER_S:g} asked)",
    "error walking, px/s": "mean error while walking",
    "error standing, px/s": "mean error while standing",
}


class Obedience(Figure):
    name = "obedience"
    title = "Obedience to the actions"
    about = (
        "The camera's motion, estimated by matching the ground's texture from frame to frame, compared with "
        f"the actions. A latent frame (0.25 s) that moves less than {MOVES_PX:g} of its {LATENT_PX} px "
        "counts as standing. The text under each picture is what was requested of the latent frame that ends "
        "there, and what was measured."
    )

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        plays = {f"play-{seed:03}": partial(self._play, bench, seed) for seed in range(scale.n)}
        checks = {
            f"validate-{place}": partial(self._validate, bench, i, thorough=scale.n >= THOROUGH)
            for i, place in enumerate(PLACES)
        }
        return plays | checks

    def _play(self, bench: Bench, seed: int) -> Outcome:
        model, rng = bench.model, Random(f"obedience {seed}")
        what = prompts.attributes("obedience", seed)
        script, actions = script_of(model.spec, random_runs(rng))
        video = model.video(prompts.say(what, rng), seed, SEGMENTS, script)
        sharp = truth(prompts.values(what), actions, seed)
        found, strips = {}, []
        for source, frames in zip(SOURCES, (video, sharp, model.reconstruct(sharp)), strict=True):
            moved = displacement(frames)
            skip = model.spec.segment  # the first segment of a scene has no history
            found[source] = compare(moved[skip:], actions[skip:])
            if source != "rendered":
                label = f"{source}, seed {seed}: {prompts.names(prompts.values(what))}"
                strips.append(Strip(label, _shots(frames, actions, moved)))
        return Outcome({"seed": seed, "found": found}, strips)

    def _validate(self, bench: Bench, place: int, *, thorough: bool) -> Outcome:
        """Validate the estimator in one place and every weather, at one time of day or at all of them."""
        actions = torch.tensor([ACTIONS.index(a) for a in _EVERYTHING])
        found = []
        for weather in range(len(WEATHERS)):
            for time in range(len(TIMES)) if thorough else [weather]:
                seed = 16 * place + 4 * weather + time
                what = prompts.attributes("validate", seed) | {
                    "place": place,
                    "weather": weather,
                    "time": time,
                }
                sharp = truth(prompts.values(what), actions, seed)
                for source, frames in zip(SOURCES[1:], (sharp, bench.model.reconstruct(sharp)), strict=True):
                    figures = compare(displacement(frames), actions)
                    found.append({"weather": weather, "source": source, **figures})
        return Outcome({"place": place, "validation": found})

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        plays = [r["found"] for r in pick(rows) if "found" in r]
        shares = Table("latent frames", SOURCES, percent=True)
        speeds = Table("speeds, px/s", SOURCES)
        for key, label in SHARES.items():
            shares.add(label, [share(_known(p[s][key] for p in plays)) for s in SOURCES])
        for key, label in SPEEDS.items():
            speeds.add(label, [mean(_known(p[s][key] for p in plays)) for s in SOURCES])
        checks = [r for r in pick(rows) if "validation" in r]
        notes = [
            f"{SEGMENTS} segments each, with random actions in runs of 2 to 4 segments; the first segment is "
            "not counted. Chance is 50 % of the signs, and less because of the threshold."
        ]
        return Summary([shares, speeds, self._validity(checks, notes)], notes)

    def _validity(self, checks: list[Row], notes: list[str]) -> Table:
        """The estimator's accuracy by place and weather, from worlds whose camera is known."""
        heads = [f"{what}, {source}" for what in ("right sign", "still") for source in ("sharp", "soft")]
        table = Table(
            "the estimator on rendered worlds, sharp and through the autoencoder", heads, percent=True
        )
        worlds = [(PLACES[r["place"]], WEATHERS[v["weather"]], v) for r in checks for v in r["validation"]]
        for name in (*PLACES, *WEATHERS, "all"):
            mine = [v for place, weather, v in worlds if name in (place, weather, "all")]
            keys = ("sign", "still when asked to stand")
            cells = [share([v[k] for v in mine if v["source"] == s]) for k in keys for s in SOURCES[1:]]
            table.add(name, cells)
        weak = [
            f"{head} in {name} ({100 * c.value:.0f} %)"
            for name, cells in table.rows
            for head, c in zip(heads, cells, strict=True)
            if isinstance(c, Estimate) and c.value < SURE
        ]
        if weak:
            notes.append(f"The estimator is right in less than {100 * SURE:.0f} %: {'; '.join(weak)}.")
        return table


_EVERYTHING: Final = ("right", "right", "right", "idle", "left", "left", "jump", "jump", "right", "left")


def random_runs(rng: Random) -> list[tuple[int, str]]:
    """Runs of 2 to 4 segments, walking two thirds of the time, never the same action twice in a row."""
    runs: list[tuple[int, str]] = []
    while sum(length for length, _ in runs) < SEGMENTS:
        last = runs[-1][1] if runs else ""
        choices = [a for a in ("right", "right", "left", "left", "idle", "jump") if a != last]
        runs.append((rng.randint(2, 4), rng.choice(choices)))
    length = sum(length for length, _ in runs) - SEGMENTS
    return [*runs[:-1], (runs[-1][0] - length, runs[-1][1])]


def _shots(frames: Tensor, actions: Tensor, moved: Tensor, count: int = 10) -> list[SheetPicture]:
    shots = []
    for i in torch.linspace(2, len(actions) - 1, count).long().tolist():
        asked = float(asked_px(actions[i : i + 1]))
        right = (
            float(moved[i]) * asked > 0 and abs(moved[i]) >= MOVES_PX if asked else abs(moved[i]) < MOVES_PX
        )
        text = f"{ACTIONS[int(actions[i])]}: {asked:+.0f} px requested,\n{float(moved[i]):+.1f} px measured"
        shots.append(SheetPicture(frames[(i + 1) * FRAMES_PER_LATENT - 1], text, bool(right)))
    return shots


def _known(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None]
