"""Training data for FramePack-F0, which makes the last segment first. Each segment has the following ones as
its history, and a start picture on the far side.

It uses the same windows of the same episodes with time reversed, cut into blocks that begin at an anchor. A
model with the usual packing thus learns F0 (arXiv 2504.12626, inverted anti-drifting) without code of its
own, and can start from other weights like every other variant. It differs from FramePack in two ways: the
relative times of the history change their sign, and the anchor lies before the history instead of after it.
Objectives are unknown here.

Legend: E episodes, L latent frames, B chains, W latent frames of a segment, C h w latent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from engine.model import flow
from engine.model.config import ModelConfig
from engine.training.data.chains import Chains, chains_of
from engine.training.data.latents import Pool
from engine.training.data.material import WanderMaterial
from engine.training.data.windows import Windows, gather, sample_windows
from engine.training.recipe import Phase
from engine.world.motion import IDLE, JUMP, LEFT, RIGHT

BLOCK: Final = 4  # segments between the anchor and the end, as many as FramePack counts exactly


def turned(actions: Tensor) -> Tensor:
    """Actions (E, L) → actions in reversed time (E, L), which lead from each latent frame to the one before
    it.

    A frame is reached from its successor by undoing the successor's walk. The first one has none to undo.
    Jumps stay with their own frames if there is no walk."""
    undone = torch.full_like(actions, IDLE)
    undone[:, :-1] = torch.where(
        actions[:, 1:] == LEFT, RIGHT, torch.where(actions[:, 1:] == RIGHT, LEFT, IDLE)
    )
    undone = torch.where((undone == IDLE) & (actions == JUMP), JUMP, undone)
    return undone.flip(1)


def turned_pool(pool: Pool) -> Pool:
    return Pool(pool.latents.flip(1), pool.attributes.flip(1), turned(pool.actions))


def block_chains(pool: Pool, windows: Windows, fresh: Tensor, prefix: int, c: ModelConfig) -> Chains:
    """One segment per chain from a reversed pool. `fresh` (B,) bool marks scenes that start from nothing. All
    others are at a random position in a block, drawn from torch's generator."""
    w = c.segment
    last = pool.actions.shape[1] - 1
    # number of segments between the anchor and this one, limited by the episode
    between = torch.randint(0, BLOCK, fresh.shape)
    between = torch.minimum(between, (last - windows.start - w) // w).clamp(min=0)
    made = torch.where(fresh, 0, BLOCK - 1 - between) * w
    scene = (windows.start - made).clamp(min=0)
    chains = chains_of(pool, Windows(windows.episode, windows.start, scene), 1, prefix, c)
    at = (windows.start + (between + 1) * w).clamp(max=last)
    anchored = ~fresh & (windows.start + (between + 1) * w <= last)
    anchor = gather(pool, windows.episode, at[:, None])
    return replace(
        chains,
        anchor=anchor * flow.wide(anchored.float(), anchor).to(anchor.device),
        number=torch.where(anchored, between + 1, 0).float(),
    )


class BackwardsMaterial(WanderMaterial):
    """The same windows as for other variants, with time reversed. They include journeys, which need no other
    treatment, since F0 has no memory."""

    def draw(self, step: int, phase: Phase, clips: int) -> tuple[Chains, Phase]:
        if clips != 1:
            raise ValueError("F0 learns single segments")
        away = phase.journeys and float(torch.rand(())) < phase.journeys
        pool = (self.journeys if away else self.mixed).at(step)
        return self._chains(pool, max(1, phase.batch), phase.fresh), phase

    def held_out(self, count: int, segments: int, *, fresh: float = 0.0) -> Chains:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return self._chains(self._held_out, count, fresh)

    def _chains(self, pool: Pool, count: int, fresh: float) -> Chains:
        c = self.config
        windows = sample_windows(pool, count, c.segment, 1, fresh=fresh)
        rows = windows.episode
        few = turned_pool(Pool(pool.latents[rows], pool.attributes[rows], pool.actions[rows]))
        start = few.actions.shape[1] - c.segment - windows.start  # the same frames, counted from the end
        begins = windows.scene == windows.start
        return block_chains(few, Windows(torch.arange(count), start, start), begins, 0, c)
