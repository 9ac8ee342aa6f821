"""The DiT's stage: phases of one run, each with its objective, over a pool of episodes that is renewed
meanwhile.

Knows neither equations (objectives) nor how episodes are made (latents).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError

import torch

from engine.errors import ModelFilesError
from engine.model.autoencoder import Autoencoder
from engine.model.config import ModelConfig
from engine.model.dit import MemoryPackDiT
from engine.training.autoencoder import load_autoencoder
from engine.training.chains import Chains, chains_of
from engine.training.judge import held_out_chains, sample_errors
from engine.training.latents import Episodes, Source, cache_folder
from engine.training.learner import Learner, fit, load_matching, save_weights
from engine.training.objectives import OBJECTIVES
from engine.training.recipe import Data, Phase, Recipe
from engine.training.run import Run
from engine.training.windows import sample_journeys, sample_windows

PARTS = ("norm_out", "proj_out")  # what `train = "output"` trains: the paper's second stage


class Curriculum:
    """Which phase a run is in, and how far in it."""

    def __init__(self, phases: tuple[Phase, ...]) -> None:
        lengths = [p.minutes + p.steps for p in phases]
        self.phases = phases
        self.ends = [sum(lengths[: i + 1]) / sum(lengths) for i in range(len(phases))]

    def at(self, progress: float) -> tuple[Phase, float]:
        """The phase at this share of the whole, and the share of the phase."""
        number = next((i for i, end in enumerate(self.ends) if progress < end), len(self.ends) - 1)
        begin = self.ends[number - 1] if number else 0.0
        return self.phases[number], (progress - begin) / (self.ends[number] - begin)


def choose_trained(model: MemoryPackDiT, phase: Phase) -> None:
    """Let gradients reach what the phase trains, and nothing else."""
    for name, p in model.named_parameters():
        p.requires_grad_(phase.train == "all" or name.startswith(PARTS))


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """bf16 where it is fast; the CPU stays exact."""
    if device.type != "cuda":
        return nullcontext()
    # no cache: a cast made without gradients would be used again where gradients are wanted
    return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)


class Material:
    """Chains to train on: from the pool, and from journeys once a phase asks for them."""

    def __init__(
        self, autoencoder: Autoencoder, c: ModelConfig, data: Data, seed: int, cache: Path, *, forget: bool
    ) -> None:
        device = next(autoencoder.parameters()).device
        cache = cache_folder(cache, autoencoder)
        self.config = c

        def episodes(
            name: str, length: int, changes: float, journeys: float, start: int, limit: int
        ) -> Episodes:
            source = Source(autoencoder, name, length, changes, journeys, seed, cache, device)
            return Episodes(
                source, start=start, limit=limit, every=data.renew_every, forget=forget, device=device
            )

        self.pool = episodes("mixed", data.length, data.changes, 0.25, data.start, data.limit)
        self.journeys = episodes(
            "journeys", data.journey_length, data.changes / 4, 1.0, data.journey_start, data.journey_limit
        )
        self.held_out = replace(self.pool.source, name="held-out").make(0, 16)

    def prepare(self, step: int, phases: tuple[Phase, ...]) -> None:
        """Make what the phases will want at first, before time is counted."""
        self.pool.at(step)
        if any(p.journeys for p in phases):
            self.journeys.at(step)

    def draw(self, step: int, phase: Phase, clips: int) -> tuple[Chains, Phase]:
        """A batch for this step, and the phase with what a journey changes about it."""
        c, rows = self.config, max(1, phase.batch // clips)
        if phase.journeys and float(torch.rand(())) < phase.journeys:
            pool = self.journeys.at(step)
            windows = sample_journeys(pool, rows, c.segment, clips)
            prefix = phase.journey_prefix
            return chains_of(pool, windows, clips, prefix, c), replace(phase, bptt=max(phase.bptt, prefix))
        pool = self.pool.at(step)
        windows = sample_windows(
            pool, rows, c.segment, clips, fresh=phase.fresh, long_scene=phase.objective != "teacher"
        )
        return chains_of(pool, windows, clips, phase.prefix, c), phase


def start_from(path: str, learner: Learner[MemoryPackDiT]) -> None:
    """Begin with the weights of a file {"config", "state"}, as far as they fit. Raises ModelFilesError."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")["state"]
    except (KeyError, TypeError, RuntimeError, EOFError, OSError, UnpicklingError) as e:
        raise ModelFilesError(
            f"init: {path} holds no weights of ours ({type(e).__name__}); a finished run's dit.final.pt does",
            field="init",
        ) from None
    left = load_matching(learner.model, state)
    load_matching(learner.mean, state)
    print(f"init: {path}: {len(state) - len(left)} tensors fit" + "".join(f"\n  not used: {n}" for n in left))


def train_dit(
    folder: Path,
    recipe: Recipe,
    *,
    until: str = "",
    device: str = "cpu",
    latents: Path | None = None,
) -> MemoryPackDiT:
    """Train up to the end of phase `until` (or of them all), resuming. Saves the averaged network as
    `dit.PHASE.pt` after each phase and as `dit.final.pt`, and returns it.

    `latents` is a folder of cached latents that runs may share. Raises NotFinite, ModelFilesError."""
    c, dit = recipe.config(), recipe.dit
    autoencoder = load_autoencoder(folder).to(device)
    torch.manual_seed(recipe.seed)
    model = MemoryPackDiT(c).to(device)
    learner = Learner(model, ema=dit.ema, betas=(0.9, 0.98), weight_decay=0.01)
    curriculum = Curriculum(dit.phases)
    total_s = 60 * sum(p.minutes for p in dit.phases)
    total_steps = sum(p.steps for p in dit.phases)
    run = Run(folder, "dit", total_s, steps=total_steps, lr=dit.lr, warmup=dit.warmup, hold=dit.hold)
    state = run.resume()
    if state is None and dit.init:
        start_from(dit.init, learner)
    material = Material(
        autoencoder, c, recipe.data, recipe.seed, latents or folder / "latents", forget=latents is None
    )
    material.prepare(run.step, dit.phases)
    chains = held_out_chains(model, material.held_out, 32, 1).to(device)
    if state is not None:
        learner.load(state)  # last: nothing before may draw from its generators
    seen, since = 0, run.step

    def update() -> dict[str, float]:
        nonlocal seen
        phase, within = curriculum.at(run.progress)
        run.tags["phase"] = phase.name
        clips = phase.clips(within)
        batch, phase = material.draw(run.step, phase, clips)
        loss = 0.0
        with mixed_precision(chains.targets.device):
            for part in OBJECTIVES[phase.objective](model, batch.to(device), phase, learner.mean):
                part.backward()
                loss += float(part.detach())
        seen += batch.targets.shape[0] * clips
        return {"loss": loss, "samples_per_s": seen / run.sitting_s}

    def judge() -> None:
        run.log(**sample_errors(learner.mean, chains, (1, 2, 4)))

    run.begin()
    for phase, end in zip(dit.until(until), curriculum.ends, strict=False):
        if run.progress >= end:
            continue
        choose_trained(model, phase)
        fit(run, learner, update, judge=judge, judge_every=dit.judge_every, until=end, share=phase.lr)
        save_weights(folder / f"dit.{phase.name}.pt", learner.mean, c)
    if run.step > since or not (folder / "dit.final.pt").exists():
        save_weights(folder / "dit.final.pt", learner.mean, c)
    return learner.mean
