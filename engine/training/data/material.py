"""Training material of a DiT: batches of chains for every step, and held-out chains.

`WanderMaterial` renders the built-in world; a folder of videos is another material. The stage depends on
neither.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch

from engine.model.config import ModelConfig
from engine.model.wander.autoencoder import Autoencoder
from engine.training.data.chains import Chains, chains_of
from engine.training.data.latents import EpisodePool, Source, cache_folder
from engine.training.data.windows import sample_journeys, sample_windows
from engine.training.recipe import Data, Phase

HELD_OUT = 16  # episodes
SCENES = 5  # scenes from nothing for every three segments with a history, since they have half the tokens


class Material(Protocol):
    def prepare(self, step: int, phases: tuple[Phase, ...]) -> None:
        """Make the data that the phases need at this step, before time is counted. This may take minutes."""

    def draw(self, step: int, phase: Phase, clips: int) -> tuple[Chains, Phase]:
        """A batch of chains of `clips` clips, and the phase as adapted to them. It depends only on the step
        and on torch's generator."""

    def held_out(self, count: int, segments: int, *, fresh: float = 0.0) -> Chains:
        """The same chains at every call, never trained on, of `segments` clips if there are so many. Torch's
        generator is not used."""


class WanderMaterial:
    """Mixed episodes, and journeys out and back for phases that use them."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        c: ModelConfig,
        data: Data,
        *,
        seed: int = 0,
        cache: Path | None = None,
        forget: bool = True,
    ) -> None:
        """`cache` is a folder for latents. With `forget` it holds only those that are in the pool."""
        device = next(autoencoder.parameters()).device
        folder = cache and cache_folder(cache, autoencoder)

        def episodes(source: Source, start: int, limit: int) -> EpisodePool:
            return EpisodePool(
                source, start=start, limit=limit, every=data.renew_every, forget=forget, device=device
            )

        mixed = Source(autoencoder, "mixed", data.length, data.changes, 0.25, seed, folder, device)
        out_and_back = replace(
            mixed, name="journeys", length=data.journey_length, changes=data.changes / 4, journeys=1.0
        )
        self.config = c
        self.mixed = episodes(mixed, data.start, data.limit)
        self.journeys = episodes(out_and_back, data.journey_start, data.journey_limit)
        self._held_out = replace(mixed, name="held-out").make(0, HELD_OUT)

    def prepare(self, step: int, phases: tuple[Phase, ...]) -> None:
        self.mixed.at(step)
        if any(p.journeys for p in phases):
            self.journeys.at(step)

    def draw(self, step: int, phase: Phase, clips: int) -> tuple[Chains, Phase]:
        c, rows = self.config, max(1, phase.batch // clips)
        if phase.journeys and float(torch.rand(())) < phase.journeys:
            pool = self.journeys.at(step)
            windows = sample_journeys(pool, rows, c.segment, clips)
            reach = replace(phase, bptt=max(phase.bptt, phase.journey_prefix))
            return chains_of(pool, windows, clips, phase.journey_prefix, c), reach
        pool = self.mixed.at(step)
        if phase.scenes and float(torch.rand(())) < phase.scenes:
            windows = sample_windows(pool, SCENES * phase.batch // 3, c.segment, 1, fresh=1.0)
            return chains_of(pool, windows, 1, 1, c), phase
        windows = sample_windows(pool, rows, c.segment, clips, fresh=phase.fresh, long_scene=clips > 1)
        return chains_of(pool, windows, clips, phase.prefix, c), phase

    def held_out(self, count: int, segments: int, *, fresh: float = 0.0) -> Chains:
        segments = min(segments, self._held_out.actions.shape[1] // self.config.segment)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            windows = sample_windows(self._held_out, count, self.config.segment, segments, fresh=fresh)
            return chains_of(self._held_out, windows, segments, 8, self.config)
