"""Figures and pictures of a DiT in training: few-step samples against the truth. Never the loss.

Legend: B windows, W latent frames of a segment, C h w latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.dit import MemoryPackDiT
from engine.model.sampling import sample_segment
from engine.training.chains import Chains, chains_of
from engine.training.latents import Pool
from engine.training.psi import RunningMemory
from engine.training.windows import Windows, sample_windows


@torch.no_grad()
def rollout(model: MemoryPackDiT, chains: Chains, steps: int, *, noise: float = 0.0) -> Tensor:
    """The chain as a session would generate it from the history before it: (B, S, W, C, h, w).

    `noise` is the level on the history, which the model is told."""
    memory = RunningMemory(model, chains, 1)
    history, out = chains.history, []
    w = chains.targets.shape[2]
    for k in range(chains.targets.shape[1]):
        seen = (1 - noise) * history + noise * torch.randn_like(history)
        given = memory.conditions(chains.prompts[:, k]) | {
            "history": torch.where(history.flatten(2).any(-1)[..., None, None, None], seen, history),
            "sigma": torch.full_like(chains.number, noise),
            "actions": chains.actions[:, k],
            "index": chains.number + k,
        }
        segment = sample_segment(model, torch.randn_like(chains.targets[:, k]), steps, given)
        out.append(segment)
        history = torch.cat([history[:, w:], segment], 1)
        memory.update(segment)
    return torch.stack(out, 1)


def held_out_chains(
    model: MemoryPackDiT, pool: Pool, count: int, segments: int, *, fresh: float = 0.0, prefix: int = 8
) -> Chains:
    """Always the same chains of a pool; torch's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        c = model.config
        windows: Windows = sample_windows(pool, count, c.segment, segments, fresh=fresh)
        return chains_of(pool, windows, segments, prefix, c)


def sample_errors(model: MemoryPackDiT, chains: Chains, steps: tuple[int, ...]) -> dict[str, float]:
    """Mean squared error of the chain's first segment, sampled in so many steps; and of repeating the last
    latent instead. New content counts twice its variance, so zero cannot be reached."""
    truth = chains.targets[:, :1]
    errors = {"copy_error": float((chains.history[:, None, -1:] - truth).pow(2).mean())}
    for n in steps:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(6)
            made = rollout(model, chains, n)[:, :1]
        errors[f"error_{n}_steps"] = float((made - truth).pow(2).mean())
    return errors
