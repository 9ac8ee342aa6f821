"""Adherence: does the video show what the prompt says, and how soon after a change?

Every try is one video: a new scene, 4 s later a second prompt by `recondition`, and 8 segments later a third
one by `cut`. Prompts name all attributes, and every attribute changes each time, so nothing is right by
persistence.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import Bench, ProbeReading, script_of, truth
from engine.evaluation.figure import (
    Cell,
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
from engine.evaluation.statistics import share
from engine.script import Entry
from engine.types import Prompt
from engine.world.attributes import FIELDS, FRAMES_PER_LATENT, VALUES

SETTLED = 8  # segments before a change, and the last one that is read after it
AFTER = (1, 2, 4, SETTLED)
WORDS = ("held-out", "training")
TRUTH = "rendered"
Hits = dict[str, list[list[bool]]]


class PromptMoment(NamedTuple):
    """When the video is read."""

    label: str
    scene: int  # which of the three prompts
    segments: tuple[int, ...]  # of the video, read at their ends


MOMENTS = (
    PromptMoment(f"new scene, segments 2 to {SETTLED}", 0, tuple(range(1, SETTLED))),
    *(PromptMoment(f"recondition, after {k}", 1, (SETTLED + k - 1,)) for k in AFTER),
    *(PromptMoment(f"cut, after {k}", 2, (2 * SETTLED + k - 1,)) for k in AFTER),
)


def hits(seen: ProbeReading, asked: list[Tensor], frames_per_segment: int) -> Hits:
    """Which of the 5 attributes are right, per moment and segment. The frames of the last quarter of a second
    of a segment are averaged."""
    out: Hits = {}
    for moment in MOMENTS:
        ends = [(s + 1) * frames_per_segment for s in moment.segments]
        read = [seen.values_of(end - FRAMES_PER_LATENT, end) for end in ends]
        wanted = asked[moment.scene].tolist()
        out[moment.label] = [[a == b for a, b in zip(r, wanted, strict=True)] for r in read]
    return out


class Adherence(Figure):
    name = "adherence"
    title = "Adherence to the prompt"
    about = (
        "Share of the attributes named in the prompt that the probe reads in the video. The text under each "
        "picture is what the probe reads, green if all five attributes are right. Held-out captions name at "
        "least one attribute, on average six of ten, in words that training never saw."
    )

    def jobs(self, bench: Bench, scale: Scale) -> Jobs:
        tries = {
            f"{words}-{seed:03}": partial(self._play, bench, words, seed)
            for seed in range(scale.n)
            for words in WORDS
        }
        return tries | {f"{TRUTH}-{seed:03}": partial(self._render, bench, seed) for seed in range(scale.n)}

    def _setting(self, words: str, seed: int) -> tuple[list[prompts.Attributes], list[str]]:
        """The attributes and prompts of the three scenes. The attributes do not depend on `words`."""
        rng = Random(f"adherence {seed}")
        first = prompts.attributes("adherence", seed)
        second = prompts.changed(first, rng)
        wanted = [first, second, prompts.changed(second, rng)]
        rng = Random(f"adherence {words} {seed}")
        return wanted, [prompts.say(w, rng, held_out=words == "held-out") for w in wanted]

    def _play(self, bench: Bench, words: str, seed: int) -> Outcome:
        model = bench.model
        wanted, texts = self._setting(words, seed)
        script, _ = script_of(model.spec, _walk())
        script.append(Entry(SETTLED * model.spec.segment_s, Prompt(texts[1])))
        script.append(Entry(2 * SETTLED * model.spec.segment_s, Prompt(texts[2], how="cut")))
        video = model.video(texts[0], seed, 3 * SETTLED, script)
        return self._outcome(bench, video, wanted, words, seed, texts)

    def _render(self, bench: Bench, seed: int) -> Outcome:
        spec = bench.model.spec
        wanted, _ = self._setting(TRUTH, seed)
        _, actions = script_of(spec, _walk())
        scene = SETTLED * spec.segment
        first, second, third = (prompts.values(w).expand(scene, 5) for w in wanted)
        video = torch.cat(
            [
                truth(torch.cat([first, second]), actions[: 2 * scene], seed),
                truth(third, actions[2 * scene :], seed + 1000),
            ]
        )
        texts = ["(rendered, through the autoencoder)"] * len(wanted)
        return self._outcome(bench, bench.model.reconstruct(video), wanted, TRUTH, seed, texts)

    def _outcome(
        self,
        bench: Bench,
        video: Tensor,
        wanted: list[prompts.Attributes],
        words: str,
        seed: int,
        texts: list[str],
    ) -> Outcome:
        seen, per_segment = bench.look(video), bench.model.spec.frames_per_segment
        asked = [prompts.values(w) for w in wanted]
        found = hits(seen, asked, per_segment)
        row: dict[str, Any] = {"words": words, "seed": seed, "hits": found}
        shots = []
        for scene, what in enumerate(("new scene", "recondition", "cut")):
            for k in AFTER:
                end = (scene * SETTLED + k) * per_segment
                read = seen.values_of(end - FRAMES_PER_LATENT, end)
                text = f"{what}, after {k}\n{prompts.names(read)}"
                shots.append(SheetPicture(video[end - 1], text, read == asked[scene].tolist()))
        label = "\n".join(f"{text} [{prompts.names(a)}]" for text, a in zip(texts, asked, strict=True))
        return Outcome(row, [Strip(f"{words}, seed {seed}\n{label}", shots)])

    def summarise(self, rows: Mapping[str, Row], bench: Bench) -> Summary:
        tables = []
        for words, title in (
            ("held-out", "captions with held-out words"),
            ("training", "captions in training words"),
            (TRUTH, "the same changes rendered, through the autoencoder: the instrument's upper limit"),
        ):
            found = pick(rows, words=words)
            table = Table(title, (*FIELDS, "all named"), percent=True)
            for moment in MOMENTS:
                table.add(moment.label, _cells([r["hits"][moment.label] for r in found]))
            if words != TRUTH and table.rows:
                chance = [1 / len(VALUES[f]) for f in FIELDS]
                table.add("chance", [*chance, sum(chance) / len(chance)])
            tables.append(table)
        notes = [
            "After k segments: the last quarter of a second of the k-th segment made under the new prompt. "
            "The world itself takes 0.5 s (hero, colour), 1 s (place, weather) and 1.5 s (time) to change, "
            "so early figures cannot exceed those of rendered video.",
            "Intervals: Wilson, one try per seed.",
        ]
        return Summary(tables, notes)


def _walk() -> list[tuple[int, str]]:
    """Walking in both directions and standing still, the same in every try."""
    return [(4, "right"), (6, "idle"), (6, "left"), (4, "right"), (4, "idle")]


def _cells(videos: list[list[list[bool]]]) -> list[Cell]:
    """Shares per attribute and over all attributes, with one value per video."""
    per_video = [torch.tensor(v, dtype=torch.float32).mean(0) for v in videos]
    each: list[Cell] = [share([float(v[i]) for v in per_video]) for i in range(len(FIELDS))]
    return [*each, share([float(v.mean()) for v in per_video])]
