"""Consistency, smoothness and dynamics: VBench's formulas with this world's instruments in its networks'
place.

`measures` is what drift is measured on as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Final

import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import Seen, Studio, acted, truth
from engine.evaluation.figure import Jobs, Outcome, Row, Scale, SheetPicture, Strip, Summary, Table, pick
from engine.evaluation.figures.formulas import consistency, is_dynamic, smoothness
from engine.evaluation.instruments.motion import displacement
from engine.evaluation.statistics import mean, share
from engine.world.attributes import FPS, FRAMES_PER_LATENT, HEIGHT, WIDTH

SEGMENTS: Final = 20
KEPT: Final = 8  # frames of a video whose features are put aside for the chance level
SOURCES: Final = ("model", "rendered", "rendered, through the autoencoder")
FORMULAS: Final = ("background consistency", "subject consistency", "motion smoothness")


def centred(studio: Studio, features: Tensor, which: str) -> Tensor:
    """Features (N, 128) without what all rendered frames share, so that a cosine tells pictures apart."""
    return features - studio.centre[which]


def measures(studio: Studio, frames: Tensor, seen: Seen, moved: Tensor) -> dict[str, float]:
    """VBench's three continuous metrics and whether it moves, of one clip: frames (F, 3, 96, 160), what the
    probe sees of them, and px per latent frame (L,)."""
    return {
        "background consistency": consistency(centred(studio, seen.background, "background")),
        "subject consistency": consistency(centred(studio, seen.subject, "subject")),
        "motion smoothness": smoothness(frames),
        "dynamic": float(
            is_dynamic((moved / FRAMES_PER_LATENT).repeat_interleave(FRAMES_PER_LATENT), FPS, HEIGHT, WIDTH)
        ),
    }


class Quality:
    name = "quality"
    title = "Consistency, smoothness, dynamics"
    about = (
        "VBench's formulas. For CLIP: the probe's features without the hero's part of the picture. For DINO: "
        "those of the hero's part. For AMT: in-between frames made with the world's own motions. For RAFT: "
        "the ground's displacement. Absolute values are this world's own and compare with no other benchmark."
    )
    version = 1
    needs_reader = False
    needs_others = False

    def jobs(self, studio: Studio, scale: Scale) -> Jobs:
        return {f"seed-{seed:03}": partial(self._play, studio, seed) for seed in range(scale.n)}

    def _play(self, studio: Studio, seed: int) -> Outcome:
        model, rng = studio.model, Random(f"quality {seed}")
        what = prompts.attributes("quality", seed)
        runs = [(4, rng.choice(("right", "left", "idle"))) for _ in range(SEGMENTS // 4)]
        script, actions = acted(model.spec, runs)
        video = model.video(prompts.say(what, rng), seed, SEGMENTS, script)
        sharp = truth(prompts.values(what), actions, seed)
        row: Row = {"seed": seed, "found": {}, "kept": {}}
        strips = []
        skip = model.spec.frames_per_segment  # a scene's first segment comes out of nothing
        for source, whole in zip(SOURCES, (video, sharp, model.blurred(sharp)), strict=True):
            frames, seen, moved = whole[skip:], studio.look(whole[skip:]), displacement(whole)
            found = measures(studio, frames, seen, moved[model.spec.segment :])
            row["found"][source] = found
            if source == "model":
                some = torch.linspace(0, len(frames) - 1, KEPT).long()
                for which in ("background", "subject"):
                    kept = centred(studio, getattr(seen, which)[some], which)
                    row["kept"][which] = [[round(v, 3) for v in f] for f in kept.tolist()]
            told = ", ".join(f"{k} {v:.3f}" for k, v in found.items())
            asked = prompts.names(prompts.values(what))
            at = torch.linspace(len(frames) / 8, len(frames) - 1, 8).long().tolist()
            shots = [SheetPicture(frames[i], f"{(i + skip) / FPS:.1f} s") for i in at]
            strips.append(Strip(f"{source}, seed {seed}: {asked}\n{told}", shots))
        return Outcome(row, strips)

    def summarise(self, rows: Mapping[str, Row], studio: Studio) -> Summary:
        found = pick(rows)
        table = Table("10 s, actions at random", (*SOURCES, "chance"))
        for name in FORMULAS:
            cells = [mean([r["found"][s][name] for r in found]) for s in SOURCES]
            table.add(name, [*cells, _chance(found, name)])
        moving = Table("dynamic degree", SOURCES, percent=True)
        moving.add("videos that move", [share([r["found"][s]["dynamic"] for r in found]) for s in SOURCES])
        notes = [
            "Chance: the same formula over frames of as many different videos. Smoothness has no chance "
            "level; a still picture has 1.",
            "Features are taken relative to their mean over rendered frames.",
        ]
        return Summary([table, moving], notes)


def _chance(rows: list[Row], name: str) -> float | None:
    """Consistency of videos whose every frame comes from another video."""
    which = name.split()[0]
    if which not in ("background", "subject") or len(rows) < 2:
        return None
    kept = torch.tensor([r["kept"][which] for r in rows])  # (videos, KEPT, 128)
    mixed = [
        torch.stack([kept[(start + i) % len(kept), i % KEPT] for i in range(len(kept))])
        for start in range(KEPT)
    ]
    return sum(consistency(m) for m in mixed) / len(mixed)
