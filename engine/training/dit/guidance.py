"""Guidance that is trained into the model, so that it costs nothing when serving.

Classifier-free guidance (arXiv 2207.12598) extrapolates from the model's answer without a prompt to that with
one, at the cost of a second call in every step. Here the training target is shifted instead, by the
difference of the averaged model's own answers, as in model guidance (arXiv 2502.12154):

    u′ = u + w (v(x_t | prompt) − v(x_t | nothing))

At convergence v(· | prompt) − v(· | nothing) has grown by 1 / (1 − w), so w = 0.5 is a guidance scale of 2.
ψ, history and actions are the same in both calls: guidance applies to the prompt only. Some chains must have
no prompt, so that the model learns v(· | nothing).

Legend: B rows, W latent frames of a segment, C h w latent, N sum of classes of a prompt.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from engine.model.conditions import Conditions
from engine.model.config import ModelConfig
from engine.model.wander.transformer import WanderDiT
from engine.training.data.chains import Chains


def silence(c: ModelConfig) -> Tensor:
    """(1, N): a prompt that leaves every attribute unsaid."""
    return torch.cat([torch.eye(n)[:1] for n in c.slots], 1)


def silenced(chains: Chains, share: float, c: ModelConfig) -> Chains:
    """The same chains without prompts in a share of them."""
    prompts = chains.prompts
    quiet = torch.rand(len(prompts), device=prompts.device) < share
    return replace(chains, prompts=torch.where(quiet[:, None, None], silence(c).to(prompts), prompts))


@torch.no_grad()
def push(mean: WanderDiT, xt: Tensor, t: Tensor, given: Conditions, weight: float) -> Tensor:
    """The shift of the velocity target, (B, W, C, h, w). `mean` is the averaged model."""
    text, pooled = mean.text_slots(silence(mean.config).to(xt))
    nothing = replace(given, text=text.expand_as(given.text), pooled=pooled.expand_as(given.pooled))
    d = torch.zeros_like(t)
    difference: Tensor = mean(xt, t, d, given) - mean(xt, t, d, nothing)
    return weight * difference
