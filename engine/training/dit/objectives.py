"""The training objectives (arXiv 2510.01784, section 3.3) as functions of a model and a batch of chains.

All three denoise the segments of a chain in order and carry ψ along. They differ in what the next segment
finds in its history and memory: the truth (teacher forcing, Eq. 5), the model's own one-step estimate from
the truth (Direct Forcing, Eq. 7), or its own sample from noise (Student Forcing). Each yields losses with
independent graphs: backpropagate each one as it comes, then update once.

Legend: B chains, W latent frames of a segment, C h w latent, K history frames, M memory tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from engine.model import flow
from engine.model.conditions import Conditions
from engine.model.config import ModelConfig
from engine.model.wander.hints import known, landmark
from engine.model.wander.transformer import WanderDiT
from engine.training.data.chains import Chains
from engine.training.data.course import RunningPlaces
from engine.training.dit.guidance import push, silenced
from engine.training.dit.memory import RunningMemory
from engine.training.dit.sampling import sample_segment
from engine.training.dit.splitting import split_target, split_times
from engine.training.recipe import Phase

UNKNOWN = 3.0  # extra weight of places that have not been seen
LANDMARK = 3.0  # extra weight of the part of it where a landmark is planned
EARLY = 0.2  # half of the scenes from nothing are trained before this t


class Noised(NamedTuple):
    """A partly noisy segment, and the model's answer for it."""

    clean: Tensor  # (B, W, C, h, w)
    xt: Tensor
    t: Tensor  # (B,)
    velocity: Tensor  # the model's, without gradients, for jump length d
    d: Tensor  # (B,)
    given: Conditions


class NoisyHistory(NamedTuple):
    history: Tensor  # (B, K, C, h, w)
    sigma: Tensor  # (B,) the level of its noise


Leave = Callable[[WanderDiT, Noised], Tensor]  # what the next segment finds: (B, W, C, h, w)


def teacher_forcing(
    model: WanderDiT, chains: Chains, phase: Phase, mean: WanderDiT | None = None
) -> Iterator[Tensor]:
    """Eq. 5: the next segment finds the truth."""
    return _losses(model, chains, phase, mean, lambda _, noised: noised.clean)


def direct_forcing(
    model: WanderDiT, chains: Chains, phase: Phase, mean: WanderDiT | None = None
) -> Iterator[Tensor]:
    """Eq. 7: the next segment finds x̃ = x_t + (1 − t) u, with x_t made from the truth.

    Once the model knows jumps (phase.split), u is its velocity for the whole jump d = 1 − t. Then x̃ is a
    sample instead of the mean of all possible continuations."""

    def leave(model: WanderDiT, noised: Noised) -> Tensor:
        if phase.split:
            velocity = model(noised.xt, noised.t, 1 - noised.t, noised.given)
            return flow.one_step(noised.xt, velocity, noised.t)
        estimate = flow.one_step(noised.xt, noised.velocity, noised.t)
        clear = flow.wide(noised.t, estimate) >= phase.blur_below
        return torch.where(clear, estimate, noised.clean)

    return _losses(model, chains, phase, mean, leave)


def student_forcing(
    model: WanderDiT, chains: Chains, phase: Phase, mean: WanderDiT | None = None
) -> Iterator[Tensor]:
    """The next segment finds the model's own sample, made in `rollout_steps` Euler steps."""

    def leave(model: WanderDiT, noised: Noised) -> Tensor:
        return sample_segment(model, torch.randn_like(noised.clean), phase.rollout_steps, noised.given)

    return _losses(model, chains, phase, mean, leave)


OBJECTIVES = {"teacher": teacher_forcing, "direct": direct_forcing, "student": student_forcing}


def _losses(
    model: WanderDiT, chains: Chains, phase: Phase, mean: WanderDiT | None, leave: Leave
) -> Iterator[Tensor]:
    """Yield parts of the mean loss over the chains' segments. A constant answer of 0 has a loss of about
    1."""
    b, segments, w = chains.targets.shape[:3]
    if phase.silent:
        chains = silenced(chains, phase.silent, model.config)
    memory = RunningMemory(model, chains, phase.bptt)
    world = RunningPlaces(chains.walk, chains.actions, model.config) if chains.walk else None
    history = chains.history
    forced = flow.wide(torch.rand(b, device=history.device) < phase.forced, history)
    part = torch.zeros((), device=history.device)
    for k in range(segments):
        noisy = noisy_history(history, phase.context_noise)
        given = memory.conditions(
            chains.prompts[:, k],
            history=noisy.history,
            sigma=noisy.sigma,
            actions=chains.actions[:, k],
            index=chains.number + k,
        )
        if world is not None:
            given = world.with_hints(given)
        given = replace(given, bare=not bool(given.context.any()))
        noised, loss = _denoise(model, chains.targets[:, k], given, phase, mean)
        part = part + loss / segments
        last = k + 1 == segments
        if last or (k + 1) % phase.bptt == 0:
            yield part
            part = torch.zeros_like(part)
            memory.detach()
        if not last:
            with torch.no_grad():
                own = leave(model, noised)
            left = torch.where(forced, own, noised.clean) if phase.objective != "teacher" else own
            history = torch.cat([history[:, w:], left], 1)
            memory.update(left)
            if world is not None:
                world.update(left)


def _denoise(
    model: WanderDiT, clean: Tensor, given: Conditions, phase: Phase, mean: WanderDiT | None
) -> tuple[Noised, Tensor]:
    """The loss of one segment at random times. With interval splitting, the first rows learn jumps."""
    b = clean.shape[0]
    t, d = sample_t(b, clean.device), torch.zeros(b, device=clean.device)
    if given.bare:  # what a scene looks like is decided in its first steps
        early = EARLY * torch.rand(b, device=clean.device) ** 2
        t = torch.where(torch.rand(b, device=clean.device) < 0.5, early, t)
    noise = torch.randn_like(clean)
    rows = int(phase.split * b + float(torch.rand(()))) if phase.split else 0
    if rows:
        t[:rows], d[:rows] = split_times(rows, clean.device)
    xt, velocity = flow.interpolate(clean, noise, t), flow.target(clean, noise)
    if rows:
        assert mean is not None, "interval splitting wants the averaged model as its teacher"
        few = given.map(lambda value: value[:rows].detach())
        velocity[:rows] = split_target(mean, xt[:rows], t[:rows], d[:rows], few)
    if phase.guidance and rows < b:
        assert mean is not None, "guidance wants the averaged model"
        rest = given.map(lambda value: value[rows:].detach())
        velocity[rows:] += push(mean, xt[rows:], t[rows:], rest, phase.guidance)
    net, base = model.network(xt, t, d, given), model.base(given)
    wanted = model.precondition.answer(xt, t, velocity, base, given.context)
    weight = hero_mask(model.config, phase.hero_weight).to(net.device)
    if given.hints is not None:
        near_known = known(given.hints, model.config)[:, :, :1]
        stands = landmark(given.hints)
        weight = weight * (1 + (UNKNOWN + LANDMARK * stands) * (1 - near_known))
        weight = weight / weight.mean()
    loss = ((net - wanted).pow(2) * weight).mean()
    said = model.precondition.velocity(xt, t, net.detach(), base, given.context)
    return Noised(clean, xt, t, said, d, given.map(Tensor.detach)), loss


def noisy_history(history: Tensor, most: float) -> NoisyHistory:
    """History with noise of level σ up to `most`. σ is 0 in 40 % of rows; low levels are more frequent."""
    b = history.shape[0]
    sigma = most * torch.rand(b, device=history.device) ** 1.5
    sigma = torch.where(torch.rand(b, device=history.device) < 0.4, 0.0, sigma)
    level = flow.wide(sigma, history)
    inside = (history != 0).flatten(2).any(-1)[..., None, None, None]
    noisy = (1 - level) * history + level * torch.randn_like(history)
    return NoisyHistory(torch.where(inside, noisy, history), sigma)


def sample_t(b: int, device: torch.device | str = "cpu") -> Tensor:
    """Logit-normal times (b,), of which 15 % are uniform so that both ends occur."""
    t = torch.sigmoid(torch.randn(b, device=device))
    u = torch.rand(b, device=device)
    return torch.where(u < 0.15, u / 0.15, t)


def hero_mask(c: ModelConfig, weight: float) -> Tensor:
    """Weights (h, w) with mean 1. The area where the hero can be counts `weight` times as much."""
    mask = torch.ones(c.latent_height, c.latent_width)
    mask[3:10, c.latent_width // 2 - 2 : c.latent_width // 2 + 2] = weight
    return mask / mask.mean()
