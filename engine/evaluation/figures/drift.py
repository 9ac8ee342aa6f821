"""Drift: how do the first and the last 15 % of a long video differ?

For every metric M this gives the paper's Δ = |M(first 15 %) − M(last 15 %)| per video, averaged over videos,
and the signed mean of last − first. Noise alone makes Δ positive, so Δ is also measured on rendered video,
which does not drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import RECONSTRUCTED, Bench, other_worlds, rounded, script_of, to_tensor, truth
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
from engine.evaluation.figures.obedience import LATENTS_PER_S, WALK_PX_PER_S, asked_px
from engine.evaluation.figures.quality import measures
from engine.evaluation.instruments.motion import MOVES_PX, displacement
from engine.evaluation.prompted_scenes import distance
from engine.evaluation.statistics import mean, of_seeds, share
from engine.types import ByteArray
from engine.world.attributes import ACTIONS, FIELDS, FPS, FRAMES_PER_LATENT

ENDS: Final = 0.15
LONGEST_S: Final = 60.0  # the longest end that is measured
KEPT: Final = 24  # frames of an end whose features are stored
PERCENT: Final = (*FIELDS, "all named", "right sign")
Ends = dict[float, tuple[Tensor, Tensor]]


def spans(seconds: float, first_frame: int) -> tuple[range, range]:
    """Pixel frames of the first and the last 15 % of a video that starts at `first_frame` and lasts
    `seconds`: whole latent frames, at most a minute each."""
    total = round(seconds * FPS)
    length = min(int(ENDS * total), round(LONGEST_S * FPS)) // FRAMES_PER_LATENT * FRAMES_PER_LATENT
    end = first_frame + total
    return range(first_frame, first_frame + length), range(end - length, end)


def pixels(frames: Tensor) -> dict[str, float]:
    """Statistics of frames (F, 3, H, W) uint8, in levels of 255. Sharpness is the mean absolute difference
    between horizontal neighbours."""
    x = frames[::FRAMES_PER_LATENT].float()
    return {
        "brightness": float(x.mean()),
        "contrast": float(x.mean(1).flatten(1).std(1).mean()),
        "saturation": float((x.amax(1) - x.amin(1)).mean()),
        "sharpness": float((x[..., 1:] - x[..., :-1]).abs().mean()),
    }


class Drift(Figure):
    name = "drift"
    title = "Drift over long videos"
    about = (
        "One prompt, one walk in one direction, no other control. The pictures are from the two ends that "
        "are compared, with what the probe reads in them."
    )

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        jobs = {}
        for seed in range(scale.n):
            own = tuple(d for d in scale.durations_s if d <= LONGEST_S or seed < scale.long_n)
            key = "-".join(f"{d:g}" for d in own)
            if own:
                jobs[f"seed-{seed:03}-{key}s"] = partial(self._play, bench, seed, own)
            if own and seed < scale.truths:
                jobs[f"truth-{seed:03}-{key}s"] = partial(self._render, bench, seed, own)
        return jobs

    def _setting(self, seed: int) -> tuple[prompts.Attributes, str, str]:
        what, prompt, _ = prompts.setting("drift", seed)
        return what, prompt, "left" if seed % 2 else "right"

    def _play(self, bench: Bench, seed: int, durations: tuple[float, ...]) -> Outcome:
        model = bench.model
        what, prompt, action = self._setting(seed)
        count = 1 + model.segments(max(durations))
        script, actions = script_of(model.spec, [(count, action)])
        skip = model.spec.frames_per_segment  # the first segment of a scene has no history
        wanted = {d: spans(d, skip) for d in durations}
        with closing(model.play(prompt, seed=seed, script=script, steps=None)) as made:
            kept = collect(made, [r for pair in wanted.values() for r in pair])
        ends = {d: (kept[pair[0]], kept[pair[1]]) for d, pair in wanted.items()}
        return self._outcome(bench, ends, what, actions[:1], seed, False, prompt)

    def _render(self, bench: Bench, seed: int, durations: tuple[float, ...]) -> Outcome:
        model = bench.model
        what, _, action = self._setting(seed)
        _, actions = script_of(model.spec, [(1 + model.segments(max(durations)), action)])
        skip = model.spec.frames_per_segment
        ends: Ends = {}
        for d in durations:
            parts = [
                model.reconstruct(truth(prompts.values(what), actions, seed, r.start, r.stop))
                for r in spans(d, skip)
            ]
            ends[d] = (parts[0], parts[1])
        return self._outcome(bench, ends, what, actions[:1], seed, True, RECONSTRUCTED)

    def _outcome(
        self,
        bench: Bench,
        ends: Ends,
        what: prompts.Attributes,
        action: Tensor,
        seed: int,
        rendered: bool,
        label: str,
    ) -> Outcome:
        asked = prompts.values(what)
        others = other_worlds(asked, ACTIONS[int(action)], KEPT, seed)
        row: Row = {"seed": seed, "rendered": rendered, "durations": {}, "reference": bench.features(others)}
        shots: list[SheetPicture] = []
        for d, pair in ends.items():
            found = [self._measure(bench, frames, asked, action) for frames in pair]
            row["durations"][f"{d:g}"] = [f for f, _ in found]
            for name, frames, (figures, read) in zip(("first", "last"), pair, found, strict=True):
                text = (
                    f"{name} 15 % of {d:g} s: {100 * figures['all named']:.0f} % right\n{prompts.names(read)}"
                )
                shots.append(SheetPicture(frames[-1], text, read == asked.tolist()))
        return Outcome(row, [Strip(f"seed {seed}: {label}\nasked: {prompts.names(asked)}", shots)])

    def _measure(
        self, bench: Bench, frames: Tensor, asked: Tensor, action: Tensor
    ) -> tuple[dict[str, Any], list[int]]:
        """All figures of one end, and what the probe reads in its last quarter of a second."""
        seen, moved = bench.look(frames), displacement(frames)
        right = (seen.values() == asked).float().mean(0)
        along = moved * asked_px(action).sign()
        figures: dict[str, Any] = {f: float(r) for f, r in zip(FIELDS, right, strict=True)}
        figures["all named"] = float(right.mean())
        figures["right sign"] = float((along >= MOVES_PX).float().mean())
        figures["speed, px/s"] = float(along.mean() * LATENTS_PER_S)
        figures |= measures(bench, frames, seen, moved)
        figures |= pixels(frames)
        some = torch.linspace(0, len(frames) - 1, KEPT).long()
        figures["features"] = rounded(seen.whole[some] / bench.spread)
        return figures, seen.values_of(len(frames) - FRAMES_PER_LATENT, len(frames))

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        tables = []
        durations = sorted({float(d) for r in rows.values() for d in r["durations"]})
        for d in durations:
            heads = ("first 15 %", "last 15 %", "Δ", "last − first", "Δ of rendered video")
            shares, others = Table(f"{d:g} s", heads, percent=True), Table(f"{d:g} s, other figures", heads)
            mine = [r for r in pick(rows, rendered=False) if f"{d:g}" in r["durations"]]
            own = [r["durations"][f"{d:g}"] for r in mine]
            true = [r["durations"].get(f"{d:g}") for r in pick(rows, rendered=True)]
            if not own:
                continue
            for name in own[0][0]:
                if name == "features":
                    continue
                first, last = ([v[i][name] for v in own] for i in (0, 1))
                change = [b - a for a, b in zip(first, last, strict=True)]
                floor = mean([abs(v[1][name] - v[0][name]) for v in true if v])
                level = share if name in PERCENT else mean
                cells = [level(first), level(last), mean([abs(c) for c in change]), mean(change), floor]
                (shares if name in PERCENT else others).add(name, cells)
            others.add("Fréchet distance", _fidelity(own, [r["reference"] for r in mine]))
            tables += [shares, others]
        notes = [
            "Δ is the mean of |last − first| over videos, as in the paper. It is positive even without "
            "drift: see the last column. Ends are 15 % of the video but at most a minute; the first end "
            f"starts after the scene's first segment. The requested speed is {WALK_PX_PER_S:g} px/s.",
            f"The Fréchet distance compares {KEPT} frames of each end of all videos with other rendered "
            "worlds under the same prompts.",
        ]
        return Summary(tables, notes)


def collect(made: Iterable[ByteArray], wanted: list[range]) -> dict[range, Tensor]:
    """The frames of some spans of an endless video. Other frames are not kept."""
    parts: dict[range, list[Tensor]] = {r: [] for r in wanted}
    at, end = 0, max(r.stop for r in wanted)
    for frames in made:
        here = range(at, at + len(frames))
        for r, kept in parts.items():
            low, high = max(r.start, here.start), min(r.stop, here.stop)
            if low < high:
                kept.append(to_tensor(frames[low - at : high - at]))
        at = here.stop
        if at >= end:
            break
    return {r: torch.cat(kept) for r, kept in parts.items()}


def _fidelity(videos: list[Any], references: list[Any]) -> list[Any]:
    """Fréchet distances of the first and the last ends to their prompts in other rendered worlds, and the
    difference, as cells of a table."""
    truth = [np.array(r) for r in references]
    ends = [[np.array(v[i]["features"]) for v in videos] for i in (0, 1)]

    def change(seeds: Sequence[int]) -> float:
        return distance(ends[1], truth, seeds) - distance(ends[0], truth, seeds)

    n = len(videos)
    each = [of_seeds(n, partial(distance, e, truth)) for e in ends]
    return [*each, None, of_seeds(n, change), None]
