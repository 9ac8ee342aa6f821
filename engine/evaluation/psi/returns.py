"""What ψ contributes where only ψ can know: the denoising error of content that comes back into the picture.

This is our most sensitive measure of memory, for models that were trained for minutes: it needs no
recognisable video or landmarks. At returns on held-out journeys (`windows.recalls`), under the true history,
it compares the loss on the incoming columns for the same noise and three kinds of ψ: one that has seen the
way, one that has seen only what the history still shows, and another journey's. Models with structure W are
also given views of only what the history still shows.

Legend: B returns, W latent frames of a segment, C h w latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from engine.evaluation.statistics import Estimate, mean
from engine.model import flow
from engine.model.conditions import Conditions
from engine.model.wander.transformer import WanderDiT
from engine.training.data.chains import Chains, chains_of
from engine.training.data.course import RunningPlaces, course_of
from engine.training.data.latents import Pool
from engine.training.data.windows import REACH, Windows, recalls
from engine.training.dit.memory import RunningMemory
from engine.world.motion import walk_and_jump

TIMES: Final = (0.2, 0.45, 0.7)  # t: noise to data
PREFIX: Final = 24  # segments that ψ has seen
COLUMNS: Final = 4  # latent columns that a segment's walk brings in, with a margin for blur
VIEWS: Final = "short views"  # ψ of its own, but views only of what the history still shows


def returns(pool: Pool, segment: int, count: int) -> Windows:
    """Up to `count` segments that walk back to places that have left the history, from different episodes if
    there are enough. Always the same ones."""
    ends = recalls(pool.actions)
    step = walk_and_jump(pool.actions)[0]
    last = pool.actions.shape[1] - segment
    rows, starts = [], []
    generator = torch.Generator().manual_seed(7)
    for lap in range(-(-count // len(pool))):
        for row in range(len(pool)):
            at = [
                s
                for s in range(REACH + segment, last + 1)
                if bool(ends[row, s : s + segment].all())
                and abs(int(step[row, s : s + segment].sum())) == segment
                and bool((pool.attributes[row, s - 1] == pool.attributes[row, s + segment - 1]).all())
            ]
            if len(at) > lap:
                rows.append(row)
                starts.append(at[int(torch.randint(0, len(at), (), generator=generator))])
    where = torch.tensor(rows[:count], dtype=torch.int64), torch.tensor(starts[:count], dtype=torch.int64)
    return Windows(*where, torch.zeros_like(where[1]))


@torch.no_grad()
def errors(model: WanderDiT, pool: Pool, windows: Windows, *, seed: int = 8) -> dict[str, list[float]]:
    """The mean loss over TIMES on the incoming columns, per return and kind of ψ ("own", "short", "another"),
    and for VIEWS."""
    c = model.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chains = chains_of(pool, windows, 1, PREFIX, c)
        noise = torch.randn(chains.targets[:, 0].shape)
    given = _conditions(model, chains)
    short = _conditions(model, _forgetful(chains, REACH // c.segment))
    asked = {
        "own": given,
        "short": replace(given, psi=short.psi),
        "another": replace(given, psi=given.psi.roll(1, 0)),
    }
    if chains.walk is not None:
        world = RunningPlaces(chains.walk, chains.actions, c)
        asked = {kind: world.with_hints(conditions) for kind, conditions in asked.items()}
    if chains.walk is not None and c.camera is not None and c.camera.places:
        recent = replace(windows, scene=(windows.start - REACH).clamp(min=0))
        walk = replace(chains.walk, places=course_of(pool, recent, 1, c).places)
        asked[VIEWS] = RunningPlaces(walk, chains.actions, c).with_hints(given)
    inside = _incoming(chains.actions[:, 0], c.latent_width)
    out: dict[str, list[float]] = {}
    for kind, conditions in asked.items():
        parts = [_loss(model, chains.targets[:, 0], noise, t, conditions) for t in TIMES]
        error = torch.stack(parts).mean((0, 2, 3, 4))  # (B, w)
        out[kind] = ((error * inside).sum(1) / inside.sum(1)).tolist()
    return out


def _forgetful(chains: Chains, segments: int) -> Chains:
    """The chains as if only the last `segments` of their past had been seen."""
    return replace(chains, past=chains.past[:, -segments:], has_past=chains.has_past[:, -segments:])


def _conditions(model: WanderDiT, chains: Chains) -> Conditions:
    """The conditions of the chains' first segment under the true history, without hints."""
    return RunningMemory(model, chains, 1).conditions(
        chains.prompts[:, 0],
        history=chains.history,
        sigma=torch.zeros_like(chains.number),
        actions=chains.actions[:, 0],
        index=chains.number,
    )


def _loss(model: WanderDiT, clean: Tensor, noise: Tensor, t: float, given: Conditions) -> Tensor:
    """Squared error of the preconditioned answer, (B, W, C, h, w)."""
    at = torch.full((clean.shape[0],), t)
    xt = flow.interpolate(clean, noise, at)
    answer = model.network(xt, at, torch.zeros_like(at), given)
    velocity, base = flow.target(clean, noise), model.base(given)
    return (answer - model.precondition.answer(xt, at, velocity, base, given.context)).pow(2)


def _incoming(actions: Tensor, width: int) -> Tensor:
    """(B, w): 1 in the incoming columns."""
    from_right = walk_and_jump(actions)[0].sum(1) > 0
    columns = torch.arange(width)
    right, left = columns >= width - COLUMNS, columns < COLUMNS
    return torch.where(from_right[:, None], right, left).float()


def summary(found: Mapping[str, Sequence[float]]) -> dict[str, Estimate | None]:
    """The error, and by how many per cent it grows with each worse memory, over returns."""
    own = found["own"]
    out = {"error": mean(own)}
    for kind in [k for k in found if k != "own"]:
        out[kind] = mean([100 * (x / y - 1) for x, y in zip(found[kind], own, strict=True)])
    return out
