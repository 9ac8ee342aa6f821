"""The DiT's stage: the phases of a run, each with its objective, on a pool of episodes that is renewed.

`objectives` has the equations, and a material makes the episodes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from engine.errors import ModelFilesError
from engine.model.wander.autoencoder import Autoencoder
from engine.model.wander.transformer import WanderDiT
from engine.training.autoencoder import load_autoencoder
from engine.training.data.chains import Chains
from engine.training.data.material import Material, WanderMaterial
from engine.training.dit.ceiling import count, matmul_ceiling
from engine.training.dit.objectives import OBJECTIVES
from engine.training.dit.validation import contact_sheet, sample_errors
from engine.training.learner import Learner, fit, load_matching, mixed_precision, save_weights
from engine.training.pictures import draw_curves, write_png
from engine.training.recipe import Dit, Phase, Recipe
from engine.training.run import Run

SHEET_STEPS = 4  # Euler steps of the samples on contact sheets
CODES = 5.0  # share of the learning rate for codes of the scenery
PARTS = ("norm_out", "proj_out")  # trained with `train = "output"`, as in the paper's second stage


class Curriculum:
    """Finds the current phase of a run, and the progress within it."""

    def __init__(self, phases: tuple[Phase, ...]) -> None:
        lengths = [p.minutes + p.steps for p in phases]
        self.phases = phases
        self.ends = [sum(lengths[: i + 1]) / sum(lengths) for i in range(len(phases))]

    def at(self, progress: float) -> tuple[Phase, float]:
        """The phase at this share of the run, and the share of the phase that is done."""
        number = next((i for i, end in enumerate(self.ends) if progress < end), len(self.ends) - 1)
        begin = self.ends[number - 1] if number else 0.0
        return self.phases[number], (progress - begin) / (self.ends[number] - begin)


def choose_trained(model: WanderDiT, phase: Phase) -> None:
    """Train only the parameters that belong to the phase.

    Without interval splitting d is always 0, and its embedding would learn a constant that is missing when
    sampling at other d. So it stays silent until a phase splits."""
    for name, p in model.named_parameters():
        trained = phase.train == "all" or name.startswith(PARTS)
        p.requires_grad_(trained and (phase.split > 0 or not name.startswith("jump_embedder")))


def groups(model: WanderDiT, dit: Dit) -> list[dict[str, Any]]:
    """The parameters by how they are trained: matrices of the blocks by Muon where the recipe says so, and
    codes of the scenery at a higher rate, since few examples concern each of them."""
    inside = [item for block in model.blocks for item in block.named_parameters()]
    matrices = [p for name, p in inside if p.ndim == 2 and "norm" not in name]
    hidden = matrices if dit.optimizer == "muon" else []
    codes = list(model.scenery_code.parameters()) if hasattr(model, "scenery_code") else []
    apart = {id(p) for p in (*hidden, *codes)}
    rest = [p for p in model.parameters() if id(p) not in apart]
    parts: list[dict[str, Any]] = [
        {"params": rest},
        {"params": hidden, "hidden": True},
        {"params": codes, "scale": CODES},
    ]
    return [part for part in parts if part["params"]]


def checkpoint_blocks(model: WanderDiT) -> None:
    """Recompute each block's activations in the backward pass: a third more time, memory for one block."""
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def start_from(path: str, learner: Learner[WanderDiT]) -> None:
    """Load the weights of a file {"config", "state"}, as far as they fit. Raises ModelFilesError."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")["state"]
    except (KeyError, TypeError, RuntimeError, EOFError, OSError, UnpicklingError) as e:
        raise ModelFilesError(
            f"init: {path} holds no weights of ours ({type(e).__name__}); a finished run's dit.final.pt does",
            field="init",
        ) from None
    left = load_matching(learner.model, state)
    load_matching(learner.mean, state)
    fit = len(state.keys() - left)
    print(f"init: {path}: {fit} tensors fit")
    for name in left:
        print(f"  {'not used' if name in state else 'begins anew'}: {name}")


def train_dit(
    folder: Path,
    recipe: Recipe,
    *,
    until: str = "",
    device: str = "cpu",
    latents: Path | None = None,
    material: Material | None = None,
) -> WanderDiT:
    """Train up to the end of phase `until`, or of all phases, resuming if there is a checkpoint. Saves the
    averaged network as `dit.PHASE.pt` after each phase and as `dit.final.pt`, and returns it.

    `latents` is a folder of cached latents that runs may share. The default material is the built-in world.
    Raises NotFinite, ModelFilesError."""
    c, dit = recipe.config(), recipe.dit
    autoencoder = load_autoencoder(folder).to(device)
    torch.manual_seed(recipe.seed)
    model = WanderDiT(c).to(device)
    learner = Learner(model, ema=dit.ema, betas=(0.9, 0.98), weight_decay=0.01, groups=groups(model, dit))
    if dit.checkpoint_blocks:
        checkpoint_blocks(learner.model)
    total_s, steps = 60 * sum(p.minutes for p in dit.phases), sum(p.steps for p in dit.phases)
    run = Run(folder, "dit", total_s, steps=steps, lr=dit.lr, warmup=dit.warmup, hold=dit.hold)
    state = run.resume()
    if state is None and dit.init:
        start_from(dit.init, learner)
    if material is None:
        cache = latents or folder / "latents"
        material = WanderMaterial(
            autoencoder, c, recipe.data, seed=recipe.seed, cache=cache, forget=latents is None
        )
    material.prepare(run.step, dit.phases)
    if state is not None:
        learner.load(state)  # after all that draws from torch's generators
    curriculum = Curriculum(dit.phases)
    work = Work(run, learner, material, curriculum, torch.device(device))
    validate = Validation(run, learner, material, autoencoder, device)
    run.begin()
    for phase, end in zip(dit.until(until), curriculum.ends, strict=False):
        if run.progress < end:
            choose_trained(learner.model, phase)
            work.report_ceiling(phase)
            fit(
                run,
                learner,
                work,
                validate=validate,
                validate_every=dit.judge_every,
                until=end,
                share=phase.lr,
            )
            validate()
            save_weights(folder / f"dit.{phase.name}.pt", learner.mean, c)
            save_weights(folder / "dit.final.pt", learner.mean, c)
    return learner.mean


class Work:
    """One update: draw a batch of chains and compute the gradients of the phase's objective."""

    def __init__(
        self,
        run: Run,
        learner: Learner[WanderDiT],
        material: Material,
        curriculum: Curriculum,
        device: torch.device,
    ) -> None:
        self.run, self.learner, self.material = run, learner, material
        self.curriculum, self.device = curriculum, device
        self.ceiling = matmul_ceiling(device)  # operations per second
        self.flops = self.seen = 0.0
        self.since_s = run.elapsed_s

    def __call__(self) -> dict[str, float]:
        phase, within = self.curriculum.at(self.run.progress)
        clips = phase.clips(within)
        chains, phase = self.material.draw(self.run.step, phase, clips)
        loss = self.update(chains.to(self.device), phase)
        self.seen += chains.targets.shape[0] * clips
        rate = self.seen / max(1e-9, self.run.elapsed_s - self.since_s)
        return {"loss": loss, "samples_per_s": rate, "matmul_share": rate * self.flops / self.ceiling}

    def update(self, chains: Chains, phase: Phase) -> float:
        """Compute gradients; returns the loss."""
        loss = 0.0
        with mixed_precision(self.device):
            objective = OBJECTIVES[phase.objective]
            for part in objective(self.learner.model, chains, phase, self.learner.mean):
                part.backward()
                loss += float(part.detach())
        return loss

    def report_ceiling(self, phase: Phase) -> None:
        """Report the cost of one sample in this phase and the device's limit."""
        with torch.random.fork_rng(devices=[]):
            clips = phase.clips(1.0)
            chains, changed = self.material.draw(self.run.step, phase, clips)
        samples = chains.targets.shape[0] * clips
        self.flops = count(lambda: self.update(chains.to(self.device), changed)) / samples
        self.learner.optimizer.zero_grad(set_to_none=True)
        self.seen, self.since_s = 0.0, self.run.elapsed_s
        self.run.tags["phase"] = phase.name
        print(
            f"{phase.name}: {self.flops / 1e9:.2f} GFLOP a sample, {self.device.type} multiplies matrices at "
            f"{self.ceiling / 1e9:.0f} GFLOP/s: {self.ceiling / self.flops:.1f} samples/s at most",
            flush=True,
        )


class Validation:
    """Writes figures, a contact sheet and the curves."""

    def __init__(
        self,
        run: Run,
        learner: Learner[WanderDiT],
        material: Material,
        autoencoder: Autoencoder,
        device: str,
    ) -> None:
        self.run, self.learner, self.autoencoder = run, learner, autoencoder
        self.chains = material.held_out(32, 1).to(device)
        self.scenes = material.held_out(6, 6, fresh=0.3).to(device)

    def __call__(self) -> None:
        run, model = self.run, self.learner.mean
        run.log(**sample_errors(model, self.chains, (1, 2, 4)))
        sheet = contact_sheet(model, self.scenes, self.autoencoder, SHEET_STEPS)
        write_png(run.folder / f"{run.stage}.samples.png", sheet)
        draw_curves(run.folder / f"{run.stage}.jsonl", run.folder / f"{run.stage}.curves.png")
