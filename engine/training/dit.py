"""Stage two: teach the MemoryPack DiT by teacher forcing over chains of segments, gradients through ψ.

A chain is `segments` whole segments in a row of one scene. Each is denoised from the true history; with
probability `forcing` the history of the next one holds this one's one-step estimate instead (Direct Forcing,
arXiv 2510.01784, Eq. 7), so that the model meets its own mistakes. ψ runs through the chain and carries
gradients.

Legend: B batch, W latent frames of a segment, C h w latent, K history frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.model import flow
from engine.model.config import ModelConfig
from engine.model.dit import MemoryPackDiT
from engine.training.latents import Pool, Windows, change_age, frames_before, frames_from, sample_windows


@dataclass(frozen=True)
class Objective:
    """What a training step asks for."""

    batch: int = 12
    segments: int = 1  # of a chain
    prefix: int = 2  # segments before the chain that ψ has seen
    forcing: float = 0.0  # share of chains whose history is the model's own one-step estimate
    fresh: float = 0.15  # share of chains that start a scene
    context_noise: float = 0.5  # history noise up to this level
    hero_weight: float = 3.0


def prompt(pool: Pool, windows: Windows, at: Tensor, c: ModelConfig) -> Tensor:
    """What a user would have said of the segment that ends at latent frame `at`: (B, sum of classes).

    Fields that changed lately, or all of a fresh scene mostly, are said; the others now and then. Slightly
    soft, as the text encoder's answers are."""
    attributes = pool.attributes[windows.episode]  # (B, L, 5)
    b = attributes.shape[0]
    rows = torch.arange(b)
    ages = torch.stack(
        [change_age(attributes[:, :, f : f + 1])[rows, at] for f in range(attributes.shape[2])], 1
    )
    fresh = (at - windows.scene < 4)[:, None]
    said = (ages < 9) | (torch.rand(ages.shape) < torch.where(fresh, 0.85, 0.6))
    values = torch.where(said, attributes[rows, at] + 1, 0)
    motion = torch.where(torch.rand(b) < 0.5, pool.actions[windows.episode, at] + 1, 0)
    parts = []
    for i, n in enumerate(c.slots):
        value = motion if i == len(c.slots) - 1 else values[:, i]
        blur = 0.15 * torch.rand(b, 1) ** 3
        noise = torch.rand(b, n).softmax(-1)
        parts.append((1 - blur) * torch.nn.functional.one_hot(value, n).float() + blur * noise)
    return torch.cat(parts, -1)


def hero_mask(c: ModelConfig, weight: float) -> Tensor:
    """(h, w): where the hero can be counts `weight`-fold; it is one hundredth of the picture."""
    mask = torch.ones(c.latent_height, c.latent_width)
    mask[3:10, c.latent_width // 2 - 2 : c.latent_width // 2 + 2] = weight
    return mask / mask.mean()


def sample_t(b: int) -> Tensor:
    """Logit-normal, and 15 % uniform so that both ends are met."""
    t = torch.sigmoid(torch.randn(b))
    u = torch.rand(b)
    return torch.where(u < 0.15, u / 0.15, t).clamp(0.0, 0.98)


def chain_loss(model: MemoryPackDiT, pool: Pool, o: Objective) -> Tensor:
    """Mean loss over the segments of a batch of chains; unit variance of the target makes 1 the start."""
    c = model.config
    w, kept = c.segment, sum(c.packing.history)
    windows = sample_windows(pool, o.batch, w, o.segments, fresh=o.fresh, long_scene=o.segments > 1)
    weight = hero_mask(c, o.hero_weight)
    anchor = pool.latents[windows.episode, windows.scene].float()[:, None]
    psi_memories = _prefix(model, pool, windows, o.prefix)
    history = frames_before(pool, windows, windows.start, kept)
    context = (windows.start > windows.scene).float()
    forced = torch.rand(o.batch, 1, 1, 1, 1) < o.forcing
    total = torch.zeros(())
    for k in range(o.segments):
        at = windows.start + k * w
        x1, actions, _ = frames_from(pool, windows, at, w)
        text, pooled = model.text_slots(prompt(pool, windows, at + w - 1, c))
        image = model.image_tokens(anchor, context)
        psi = model.initial_memory(text, image)
        for memory, has in psi_memories:
            psi = torch.where(has, model.squeeze(psi, memory), psi)
        t, eps = sample_t(o.batch), torch.randn_like(x1)
        xt = flow.interpolate(x1, eps, t)
        sigma = torch.where(torch.rand(o.batch) < 0.4, 0.0, o.context_noise * torch.rand(o.batch) ** 1.5)
        level = sigma[:, None, None, None, None]
        inside = (history != 0).flatten(2).any(-1)[..., None, None, None]
        seen = torch.where(inside, (1 - level) * history + level * torch.randn_like(history), history)
        given = {
            "psi": psi,
            "text": text,
            "pooled": pooled,
            "image": image,
            "history": seen,
            "anchor": anchor * flow.wide(context, anchor),
            "context": context,
            "sigma": sigma,
            "actions": actions,
            "index": (at - windows.scene).float() / w,
        }
        d = torch.rand(o.batch) * (1 - t)
        net, base = model.network(xt, t, d, given), model.base(given)
        estimate = model.precondition.estimate(xt, t, net, base, context)
        _, scale = model.precondition.coefficients(t, context)
        total = total + (((estimate - x1) / scale.clamp(min=0.03)).pow(2) * weight).mean()
        if k + 1 < o.segments:
            psi_memories.append((model.memorize(x1), torch.ones(o.batch, 1, 1, dtype=torch.bool)))
            # a very noisy t gives a blur that no sampler would leave in the history
            own = forced & (flow.wide(t, x1) > 0.25)
            history = torch.cat([history[:, w:], torch.where(own, estimate.detach(), x1)], 1)
            context = torch.ones_like(context)
    return total / o.segments


def _prefix(model: MemoryPackDiT, pool: Pool, windows: Windows, count: int) -> list[tuple[Tensor, Tensor]]:
    """Memorize outputs of up to `count` segments before the chain, oldest first, each with who has it (B, 1,
    1). Gradients flow through the last two."""
    w = model.config.segment
    out = []
    for j in range(count, 0, -1):
        at = windows.start - j * w
        has = (at >= windows.scene)[:, None, None]
        where = (at[:, None] + torch.arange(w)).clamp(min=0)
        latents = pool.latents[windows.episode[:, None], where].float()
        with torch.set_grad_enabled(torch.is_grad_enabled() and j <= 2):
            out.append((model.memorize(latents), has))
    return out
