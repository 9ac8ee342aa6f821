"""Short scenes that start from a prompt. Fidelity, few steps and ELO are measured on them.

Every scene has its own prompt and its own world. A number identifies the same scene for every model and every
number of steps, so comparisons are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.evaluation import prompts
from engine.evaluation.bench import Bench, Model, other_worlds, rounded, script_of, truth
from engine.evaluation.statistics import Features, frechet
from engine.world.attributes import FRAMES_PER_LATENT

SEGMENTS: Final = 4
SAMPLED: Final = (1, 2, 3)  # the segments whose ends are read: all but the first
WORLDS: Final = 12  # other worlds that show the same prompt


class PromptedScene(NamedTuple):
    """A scene and what the probe reads at the end of each segment in SAMPLED."""

    video: Tensor  # (F, 3, 96, 160) uint8
    asked: Tensor  # (5,)
    prompt: str
    read: list[list[int]]  # per segment, 5 values
    features: list[list[float]]  # per segment, 224 values

    def right(self) -> list[list[bool]]:
        """Per segment, which attributes the probe reads as asked for."""
        return [[a == b for a, b in zip(r, self.asked.tolist(), strict=True)] for r in self.read]


def play(bench: Bench, model: Model, number: int, steps: int | None = None) -> PromptedScene:
    """The scene as `model` plays it, in `steps` denoising steps or in its own number."""
    what, prompt, action = _setting(number)
    script, _ = script_of(model.spec, [(SEGMENTS, action)])
    video = model.video(prompt, number, SEGMENTS, script, steps)
    return _read(bench, model, video, prompts.values(what), prompt)


def render(bench: Bench, number: int, *, reconstructed: bool) -> PromptedScene:
    """The same scene rendered, and sent through the autoencoder if `reconstructed`."""
    model = bench.model
    what, prompt, action = _setting(number)
    _, actions = script_of(model.spec, [(SEGMENTS, action)])
    video = truth(prompts.values(what), actions, number)
    if reconstructed:
        video = model.reconstruct(video)
    return _read(bench, model, video, prompts.values(what), prompt)


def reference(bench: Bench, number: int) -> list[list[float]]:
    """Features of the same scene in other worlds, (WORLDS, 224)."""
    what, _, action = _setting(number)
    return bench.features(other_worlds(prompts.values(what), action, WORLDS, number))


def _setting(number: int) -> tuple[prompts.Attributes, str, str]:
    what, prompt, rng = prompts.setting("scene", number)
    return what, prompt, rng.choice(("right", "left", "idle", "right"))


def _read(bench: Bench, model: Model, video: Tensor, asked: Tensor, prompt: str) -> PromptedScene:
    ends = [(s + 1) * model.spec.frames_per_segment for s in SAMPLED]
    seen = bench.look(torch.cat([video[end - FRAMES_PER_LATENT : end] for end in ends]))
    starts = [FRAMES_PER_LATENT * i for i in range(len(ends))]
    read = [seen.values_of(i, i + FRAMES_PER_LATENT) for i in starts]
    last = seen.whole[FRAMES_PER_LATENT - 1 :: FRAMES_PER_LATENT]
    return PromptedScene(video, asked, prompt, read, rounded(last / bench.spread))


def by_seed(pairs: Sequence[tuple[int, list[list[float]]]]) -> list[Features]:
    """Features of all frames of each seed, in order of seed."""
    groups: dict[int, list[list[float]]] = {}
    for seed, features in pairs:
        groups.setdefault(seed, []).extend(features)
    return [np.array(groups[seed]) for seed in sorted(groups)]


def distance(features: list[Features], references: list[Features], seeds: Sequence[int]) -> float:
    """Fréchet distance between the features of these seeds and those of their prompts in other rendered
    worlds."""
    return frechet(
        np.concatenate([features[i] for i in seeds]), np.concatenate([references[i] for i in seeds])
    )
