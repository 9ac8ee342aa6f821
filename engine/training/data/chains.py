"""A batch of chains: consecutive segments of a video each, with all that a model may know about them.

Objectives learn from chains of any source. Legend: B chains, S segments of a chain, P segments
before it, W latent frames of a segment, C h w latent, K history frames, N sum of classes of a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from engine.model.config import ModelConfig
from engine.training.data.course import Course, course_of
from engine.training.data.latents import Pool
from engine.training.data.windows import Windows, change_age, frames_before, gather

WHOLE = 0.7  # share of prompts that state every attribute


@dataclass(frozen=True)
class Chains:
    targets: Tensor  # (B, S, W, C, h, w)
    actions: Tensor  # (B, S, W) int64
    prompts: Tensor  # (B, S, N) probabilities
    history: Tensor  # (B, K, C, h, w), zero before the scene
    past: Tensor  # (B, P, W, C, h, w) the segments before the chain, oldest first
    has_past: Tensor  # (B, P) bool: whether the scene had begun
    anchor: Tensor  # (B, 1, C, h, w)
    number: Tensor  # (B,) number of the chain's first segment in its scene; 0 starts one
    walk: Course | None = None  # the camera's position, for models that know it

    def to(self, device: torch.device | str) -> Chains:
        moved: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: v if v is None else v.to(device) for name, v in moved.items()}
        return Chains(**moved)


def chains_of(pool: Pool, windows: Windows, segments: int, prefix: int, c: ModelConfig) -> Chains:
    """Cut chains from the pool. Prompts are drawn from torch's generator."""
    w, b = c.segment, len(windows.start)
    within = windows.start[:, None] + torch.arange(segments * w)
    before = windows.start[:, None] + torch.arange(-prefix * w, 0)
    return Chains(
        targets=gather(pool, windows.episode, within).unflatten(1, (segments, w)),
        actions=pool.actions[windows.episode[:, None], within].unflatten(1, (segments, w)),
        prompts=prompts(pool, windows, within[:, w - 1 :: w], c),
        history=frames_before(pool, windows, windows.start, sum(c.packing.history)),
        past=gather(pool, windows.episode, before.clamp(min=0)).reshape(
            b, prefix, w, c.channels, c.latent_height, c.latent_width
        ),
        has_past=(before[:, ::w] >= windows.scene[:, None]),
        anchor=gather(pool, windows.episode, windows.scene[:, None]),
        number=(windows.start - windows.scene).float() / w,
        walk=course_of(pool, windows, segments, c) if c.camera else None,
    )


def prompts(pool: Pool, windows: Windows, ends: Tensor, c: ModelConfig) -> Tensor:
    """Prompts that a user might have given for each segment, (B, S, N). `ends` (B, S) are the last frames of
    the segments.

    A prompt holds until an attribute changes; then there is a new one."""
    attributes = pool.attributes[windows.episode[:, None], ends]  # (B, S, 5)
    said = [prompt(pool, windows, ends[:, 0], c)]
    for k in range(1, ends.shape[1]):
        changed = (attributes[:, k] != attributes[:, k - 1]).any(-1, keepdim=True)
        said.append(torch.where(changed, prompt(pool, windows, ends[:, k], c), said[-1]))
    return torch.stack(said, 1)


def prompt(pool: Pool, windows: Windows, at: Tensor, c: ModelConfig) -> Tensor:
    """A prompt that a user might have given for the segment that ends at latent frame `at`, (B, N).

    It states the fields that changed recently, for a new scene usually all of them, and sometimes others. The
    probabilities are slightly soft, like those of the text encoder."""
    attributes = pool.attributes[windows.episode]  # (B, L, 5)
    b = attributes.shape[0]
    rows = torch.arange(b)
    ages = torch.stack(
        [change_age(attributes[:, :, f : f + 1])[rows, at] for f in range(attributes.shape[2])], 1
    )
    fresh = (at - windows.scene < 4)[:, None]
    all_said = torch.rand(b, 1) < WHOLE
    said = (ages < 9) | fresh | all_said | (torch.rand(ages.shape) < 0.6)
    values = torch.where(said, attributes[rows, at] + 1, 0)
    motion = torch.where(torch.rand(b) < 0.5, pool.actions[windows.episode, at] + 1, 0)
    parts = []
    for i, n in enumerate(c.slots):
        value = motion if i == len(c.slots) - 1 else values[:, i]
        blur = 0.15 * torch.rand(b, 1) ** 3
        noise = torch.rand(b, n).softmax(-1)
        parts.append((1 - blur) * torch.nn.functional.one_hot(value, n).float() + blur * noise)
    return torch.cat(parts, -1)
