"""Figures and pictures of a DiT in training: few-step samples compared with the truth, not the loss.

Legend: B chains, S segments of a chain, W latent frames of a segment, C h w latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.pixels import to_bytes
from engine.model.wander.autoencoder import FRAMES, Autoencoder
from engine.model.wander.transformer import WanderDiT
from engine.training.data.chains import Chains
from engine.training.data.course import RunningPlaces
from engine.training.dit.memory import RunningMemory
from engine.training.dit.sampling import sample_segment
from engine.training.pictures import tile


@torch.no_grad()
def rollout(model: WanderDiT, chains: Chains, steps: int, *, segments: int = 0, seed: int = 6) -> Tensor:
    """Generate the chains as sessions would, from the history before them: (B, S, W, C, h, w). `segments`
    limits their number; 0 generates all. Torch's generators are not used."""
    memory = RunningMemory(model, chains, 1)
    history, out = chains.history, []
    world = RunningPlaces(chains.walk, chains.actions, model.config) if chains.walk else None
    w, count = chains.targets.shape[2], segments or chains.targets.shape[1]
    generator = torch.Generator().manual_seed(seed)
    for k in range(count):
        given = memory.conditions(
            chains.prompts[:, k],
            history=history,
            sigma=torch.zeros_like(chains.number),
            actions=chains.actions[:, k],
            index=chains.number + k,
        )
        if world is not None:
            given = world.with_hints(given)
        noise = torch.randn(chains.targets[:, k].shape, generator=generator).to(history.device)
        out.append(sample_segment(model, noise, steps, given))
        if k + 1 < count:
            history = torch.cat([history[:, w:], out[-1]], 1)
            memory.update(out[-1])
            if world is not None:
                world.update(out[-1])
    return torch.stack(out, 1)


def sample_errors(model: WanderDiT, chains: Chains, steps: tuple[int, ...]) -> dict[str, float]:
    """Mean squared error of the chains' first segment, for each number of sampling steps and for a copy of
    the last latent. New content counts with twice its variance, so zero cannot be reached."""
    truth = chains.targets[:, :1]
    errors = {"copy_error": float((chains.history[:, None, -1:] - truth).pow(2).mean())}
    for n in steps:
        made = rollout(model, chains, n, segments=1)
        errors[f"error_{n}_steps"] = float((made - truth).pow(2).mean())
    return errors


@torch.no_grad()
def contact_sheet(model: WanderDiT, chains: Chains, autoencoder: Autoencoder, steps: int) -> Tensor:
    """(3, H, W) uint8: one picture per segment, and two rows per chain with the truth above the model's
    version."""
    made = rollout(model, chains, steps)
    rows = []
    for latents in (chains.targets, made):
        before = chains.history[:, -1]
        frames, _ = autoencoder.decode(latents.flatten(1, 2), before)
        w = latents.shape[2]
        rows.append(to_bytes(frames[:, FRAMES * w - 1 :: FRAMES * w]).cpu())
    return tile(torch.stack(rows, 1).flatten(0, 1))
