"""A tiny world of latents to train on, without pictures."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from engine.model.config import ModelConfig
from engine.model.wander.transformer import WanderDiT
from engine.training.data.chains import Chains, chains_of
from engine.training.data.latents import Pool
from engine.training.data.windows import sample_windows
from engine.training.dit.stage import train_dit
from engine.training.learner import save_weights
from engine.training.recipe import Dit, Phase, Recipe
from tests.rigs.engine import tiny

LENGTH = 24


def a_pool(count: int = 6, c: ModelConfig = tiny.DIT) -> Pool:
    """Normal latents; field 0 changes at frame 8."""
    g = torch.Generator().manual_seed(1)
    shape = (count, LENGTH, c.channels, c.latent_height, c.latent_width)
    attributes = torch.zeros(count, LENGTH, 5, dtype=torch.int64)
    attributes[:, 8:, 0] = 1
    actions = torch.randint(0, 4, (count, LENGTH), generator=g)
    return Pool(torch.randn(shape, generator=g).half(), attributes, actions)


def some_chains(
    count: int = 3, segments: int = 2, *, prefix: int = 2, fresh: float = 0.0, seed: int = 5
) -> Chains:
    torch.manual_seed(seed)
    pool = a_pool()
    windows = sample_windows(pool, count, tiny.DIT.segment, segments, fresh=fresh)
    return chains_of(pool, windows, segments, prefix, tiny.DIT)


def trainable(config: ModelConfig = tiny.DIT) -> WanderDiT:
    torch.manual_seed(0)
    return WanderDiT(config)


class FixedMaterial:
    """Chains from one pool that never changes."""

    def __init__(self) -> None:
        self.pool = a_pool()

    def prepare(self, step: int, phases: tuple[Phase, ...]) -> None:
        torch.rand(7)  # what is prepared may draw, and must not matter

    def draw(self, step: int, phase: Phase, clips: int) -> tuple[Chains, Phase]:
        windows = sample_windows(self.pool, phase.batch // clips, tiny.DIT.segment, clips, fresh=phase.fresh)
        return chains_of(self.pool, windows, clips, phase.prefix, tiny.DIT), phase

    def held_out(self, count: int, segments: int, *, fresh: float = 0.0) -> Chains:
        with torch.random.fork_rng():
            return some_chains(count, segments, fresh=fresh)


def train_tiny(folder: Path, phases: tuple[Phase, ...], **rules: Any) -> WanderDiT:
    """The DiT's stage on the tiny model, with an autoencoder that nobody trained."""
    folder.mkdir(exist_ok=True)
    autoencoder = tiny.world_model().autoencoder
    save_weights(folder / "autoencoder.final.pt", autoencoder, autoencoder.config)
    until = rules.pop("until", "")
    rules = {"warmup": 2, "judge_every": 1000} | rules
    recipe = replace(Recipe(), model=asdict(tiny.DIT), dit=Dit(phases=phases, **rules))
    return train_dit(folder, recipe, until=until, material=FixedMaterial())
