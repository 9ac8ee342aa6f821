"""Short scenes that open with a prompt: what fidelity, few steps and the pairwise comparisons are measured
on.

Every scene is a prompt of its own with a world of its own; the same number makes the same scene for every
model and every number of steps, so that comparisons are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import Model, Studio, acted, elsewhere, rounded, truth
from engine.evaluation.statistics import Features, frechet
from engine.world.attributes import FRAMES_PER_LATENT

SEGMENTS: Final = 4
LOOKED_AT: Final = (1, 2, 3)  # segments, where they end: from the second one on


WORLDS: Final = 12  # other worlds that show the same prompt


class PromptedScene(NamedTuple):
    video: Tensor  # (F, 3, 96, 160) uint8
    asked: Tensor  # (5,)
    said: str
    read: list[list[int]]  # per look, 5 values
    features: list[list[float]]  # per look, 224 values

    def right(self) -> list[list[bool]]:
        """Per look, which attributes the probe reads as asked."""
        return [[a == b for a, b in zip(r, self.asked.tolist(), strict=True)] for r in self.read]


def play(studio: Studio, model: Model, number: int, steps: int | None = None) -> PromptedScene:
    what, said, action = _setting(number)
    script, _ = acted(model.spec, [(SEGMENTS, action)])
    video = model.video(said, number, SEGMENTS, script, steps)
    return _look(studio, model, video, prompts.values(what), said)


def render(studio: Studio, number: int, *, blurred: bool) -> PromptedScene:
    """The same scene as the world shows it, through the autoencoder if `blurred`."""
    model = studio.model
    what, said, action = _setting(number)
    _, actions = acted(model.spec, [(SEGMENTS, action)])
    video = truth(prompts.values(what), actions, number)
    return _look(studio, model, model.blurred(video) if blurred else video, prompts.values(what), said)


def reference(studio: Studio, number: int) -> list[list[float]]:
    """Features of the same scene in other worlds, (WORLDS, 224)."""
    what, _, action = _setting(number)
    return studio.features(elsewhere(prompts.values(what), action, WORLDS, number))


def _setting(number: int) -> tuple[prompts.Attributes, str, str]:
    rng = Random(f"scene {number}")
    what = prompts.attributes("scene", number)
    return what, prompts.say(what, rng), rng.choice(("right", "left", "idle", "right"))


def _look(studio: Studio, model: Model, video: Tensor, asked: Tensor, said: str) -> PromptedScene:
    ends = [(s + 1) * model.spec.frames_per_segment for s in LOOKED_AT]
    seen = studio.look(torch.cat([video[end - FRAMES_PER_LATENT : end] for end in ends]))
    starts = [FRAMES_PER_LATENT * i for i in range(len(ends))]
    read = [seen.verdict(i, i + FRAMES_PER_LATENT) for i in starts]
    last = seen.whole[FRAMES_PER_LATENT - 1 :: FRAMES_PER_LATENT]
    return PromptedScene(video, asked, said, read, rounded(last / studio.spread))


def by_seed(pairs: Sequence[tuple[int, list[list[float]]]]) -> list[Features]:
    """Features of all frames of a seed together, in order of seed."""
    groups: dict[int, list[list[float]]] = {}
    for seed, features in pairs:
        groups.setdefault(seed, []).extend(features)
    return [np.array(groups[seed]) for seed in sorted(groups)]


def distance(features: list[Features], references: list[Features], seeds: Sequence[int]) -> float:
    """Fréchet distance between some seeds' features and those of their prompts in other rendered worlds."""
    return frechet(
        np.concatenate([features[i] for i in seeds]), np.concatenate([references[i] for i in seeds])
    )
