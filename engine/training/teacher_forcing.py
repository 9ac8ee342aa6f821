"""The loop around `chain_loss`: one budget, two parts.

The first part sees single segments with a short ψ prefix, many fresh scenes and many changes; the second sees
chains with gradients through ψ and its own one-step estimates as history. The pool of episodes grows and is
renewed all the while. Judge by `sample_error` (a few-step sample against the truth) and the contact sheets,
not by the loss.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from engine.model.autoencoder import Autoencoder
from engine.model.config import ModelConfig
from engine.model.dit import MemoryPackDiT
from engine.model.sampling import sample_segment
from engine.training.autoencoder import load_autoencoder
from engine.training.dit import Objective, chain_loss, prompt
from engine.training.latents import (
    Pool,
    encode_episodes,
    fill_pool,
    frames_before,
    frames_from,
    join,
    sample_windows,
)
from engine.training.run import Ema, Run, clip_and_step

EPISODE = 28  # latent frames
CHAINS_FROM = 0.6  # share of the budget after which chains begin
SINGLE = Objective(batch=12, segments=1, prefix=2, fresh=0.25)
CHAIN = Objective(batch=5, segments=3, prefix=5, fresh=0.15, forcing=0.5)


@torch.no_grad()
def sample_error(model: MemoryPackDiT, pool: Pool, *, steps: int = 4, count: int = 32) -> tuple[float, float]:
    """Mean squared error of few-step samples of the next segment, and of repeating the last latent
    instead."""
    c = model.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        windows = sample_windows(pool, count, c.segment, 1, fresh=0.0)
        x1, actions, _ = frames_from(pool, windows, windows.start, c.segment)
        context = (windows.start > windows.scene).float()
        history = frames_before(pool, windows, windows.start, sum(c.packing.history))
        anchor = (
            pool.latents[windows.episode, windows.scene].float()[:, None] * context[:, None, None, None, None]
        )
        text, pooled = model.text_slots(prompt(pool, windows, windows.start + c.segment - 1, c))
        image = model.image_tokens(anchor, context)
        inputs: dict[str, Tensor] = {
            "psi": model.initial_memory(text, image),
            "text": text,
            "pooled": pooled,
            "image": image,
            "history": history,
            "anchor": anchor,
            "context": context,
            "sigma": torch.zeros(count),
            "actions": actions,
            "index": (windows.start - windows.scene).float() / c.segment,
        }
        x = sample_segment(model, torch.randn_like(x1), steps, inputs)
    return float((x - x1).pow(2).mean()), float((history[:, -1:] - x1).pow(2).mean())


def grow(pool: Pool, more: Pool, at: int, limit: int) -> tuple[Pool, int]:
    """Add episodes until `limit`, then overwrite the oldest. Returns the pool and where to write next."""
    if len(pool) < limit:
        return join([pool, more]), 0
    pool.replace(at, more)
    return pool, (at + len(more)) % limit


def train_dit(
    folder: Path,
    config: ModelConfig,
    *,
    minutes: float,
    lr: float = 1e-3,
    seed: int = 0,
    start: int = 192,
    limit: int = 1200,
) -> MemoryPackDiT:
    """Train for `minutes` in all (resuming), return the averaged model, also saved as `dit.final.pt`."""
    torch.manual_seed(seed)
    autoencoder: Autoencoder = load_autoencoder(folder)
    model = MemoryPackDiT(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    ema = Ema(model, 0.999)
    run = Run(folder, "dit", minutes * 60, lr=lr, warmup=100, hold=0.5)
    if state := run.resume():
        model.load_state_dict(state["live"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, ema.steps = state["ema"], run.step
        torch.manual_seed(seed + run.step)
    generator = torch.Generator().manual_seed(seed + 1 + run.step)
    held_out = encode_episodes(autoencoder, 12, EPISODE, torch.Generator().manual_seed(4321), 3.0)
    parts = []
    for part in fill_pool(autoencoder, start, EPISODE, generator, 3.0):
        parts.append(part)
        print(f"pool {sum(map(len, parts))} of {start} episodes", flush=True)
    pool, at = join(parts), 0

    def checkpoint(**rules: float) -> None:
        run.save(
            {
                "live": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.shadow,
                "config": asdict(config),
            },
            **rules,
        )

    run.begin()
    seen, begun_s = 0, run.elapsed_s
    while run.progress < 1:
        if run.step % 40 == 39:
            pool, at = grow(pool, encode_episodes(autoencoder, 4, EPISODE, generator, 3.0), at, limit)
        run.schedule(optimizer)
        objective = SINGLE if run.progress < CHAINS_FROM else CHAIN
        loss = chain_loss(model, pool, objective)
        loss.backward()
        clip_and_step(optimizer, model.parameters())
        ema.update()
        seen += objective.batch * objective.segments
        run.note(loss, samples_per_s=seen / (run.elapsed_s - begun_s))
        if run.step % 250 == 0:
            ema.swap()
            error, copying = sample_error(model, held_out)
            ema.swap()
            run.log(sample_error=error, copy_error=copying, episodes=len(pool))
        checkpoint(every_s=150)
    checkpoint()
    ema.swap()
    torch.save({"config": asdict(config), "state": model.state_dict()}, folder / "dit.final.pt")
    return model
