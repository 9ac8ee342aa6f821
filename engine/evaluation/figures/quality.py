"""Consistency, smoothness and dynamics: VBench's formulas with this world's instruments instead of its
networks.

Drift and the table of variants use `measures` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Final

import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import SOURCES, Bench, ProbeReading, script_of, truth
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
from engine.evaluation.figures.formulas import consistency, is_dynamic, smoothness
from engine.evaluation.instruments.motion import displacement
from engine.evaluation.statistics import mean, share
from engine.world.attributes import FPS, FRAMES_PER_LATENT, HEIGHT, WIDTH

SEGMENTS: Final = 20
KEPT: Final = 8  # frames of a video whose features are stored for the chance level
FORMULAS: Final = ("background consistency", "subject consistency", "motion smoothness")


def centred(bench: Bench, features: Tensor, which: str) -> Tensor:
    """Features (N, 128) minus their mean over rendered frames, so that cosines distinguish pictures."""
    return features - bench.centre[which]


def measures(bench: Bench, frames: Tensor, seen: ProbeReading, moved: Tensor) -> dict[str, float]:
    """VBench's three continuous metrics of a clip, and whether it is dynamic: from frames (F, 3, 96, 160),
    the probe's reading of them, and px per latent frame (L,)."""
    return {
        "background consistency": consistency(centred(bench, seen.background, "background")),
        "subject consistency": consistency(centred(bench, seen.subject, "subject")),
        "motion smoothness": smoothness(frames),
        "dynamic": float(
            is_dynamic((moved / FRAMES_PER_LATENT).repeat_interleave(FRAMES_PER_LATENT), FPS, HEIGHT, WIDTH)
        ),
    }


class Quality(Figure):
    name = "quality"
    title = "Consistency, smoothness, dynamics"
    about = (
        "VBench's formulas. Instead of CLIP: the probe's features of the background. Instead of DINO: those "
        "of the hero's part. Instead of AMT: in-between frames predicted with the world's own motions. "
        "Instead of RAFT: the ground's displacement. Absolute values cannot be compared with other "
        "benchmarks."
    )

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        return {f"seed-{seed:03}": partial(self._play, bench, seed) for seed in range(scale.n)}

    def _play(self, bench: Bench, seed: int) -> Outcome:
        model, rng = bench.model, Random(f"quality {seed}")
        what = prompts.attributes("quality", seed)
        runs = [(4, rng.choice(("right", "left", "idle"))) for _ in range(SEGMENTS // 4)]
        script, actions = script_of(model.spec, runs)
        video = model.video(prompts.say(what, rng), seed, SEGMENTS, script)
        sharp = truth(prompts.values(what), actions, seed)
        row: Row = {"seed": seed, "found": {}, "kept": {}}
        strips = []
        skip = model.spec.frames_per_segment  # the first segment of a scene has no history
        for source, whole in zip(SOURCES, (video, sharp, model.reconstruct(sharp)), strict=True):
            frames, seen, moved = whole[skip:], bench.look(whole[skip:]), displacement(whole)
            found = measures(bench, frames, seen, moved[model.spec.segment :])
            row["found"][source] = found
            if source == "model":
                some = torch.linspace(0, len(frames) - 1, KEPT).long()
                for which in ("background", "subject"):
                    kept = centred(bench, getattr(seen, which)[some], which)
                    row["kept"][which] = [[round(v, 3) for v in f] for f in kept.tolist()]
            figures = ", ".join(f"{k} {v:.3f}" for k, v in found.items())
            asked = prompts.names(prompts.values(what))
            at = torch.linspace(len(frames) / 8, len(frames) - 1, 8).long().tolist()
            shots = [SheetPicture(frames[i], f"{(i + skip) / FPS:.1f} s") for i in at]
            strips.append(Strip(f"{source}, seed {seed}: {asked}\n{figures}", shots))
        return Outcome(row, strips)

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        found = pick(rows)
        table = Table("10 s, actions at random", (*SOURCES, "chance"))
        for name in FORMULAS:
            cells = [mean([r["found"][s][name] for r in found]) for s in SOURCES]
            table.add(name, [*cells, _chance(found, name)])
        moving = Table("dynamic degree", SOURCES, percent=True)
        moving.add("videos that move", [share([r["found"][s]["dynamic"] for r in found]) for s in SOURCES])
        notes = [
            "Chance: the same formula over frames that each come from a different video. Smoothness has no "
            "chance level; a still picture has 1.",
            "Features are relative to their mean over rendered frames.",
        ]
        return Summary([table, moving], notes)


def _chance(rows: list[Row], name: str) -> float | None:
    """Consistency of frames that each come from a different video."""
    which = name.split()[0]
    if which not in ("background", "subject") or len(rows) < 2:
        return None
    kept = torch.tensor([r["kept"][which] for r in rows])  # (videos, KEPT, 128)
    mixed = [
        torch.stack([kept[(start + i) % len(kept), i % KEPT] for i in range(len(kept))])
        for start in range(KEPT)
    ]
    return sum(consistency(m) for m in mixed) / len(mixed)
