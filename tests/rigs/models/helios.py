"""Small Helios networks with random weights, ours and diffusers', with the same numbers in both."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from engine.companions.libraries import library
from engine.model.helios.config import HeliosConfig
from engine.model.helios.transformer import HeliosTransformer

SMALL = HeliosConfig(
    latent_height=16,
    latent_width=24,
    segment=3,
    heads=2,
    head_dim=12,
    layers=2,
    feed_forward=40,
    text_tokens=7,
    text_dim=20,
    rope_axes=(4, 4, 4),
)


def make_pair(c: HeliosConfig, seed: int = 0) -> tuple[HeliosTransformer, Any]:
    """Ours and diffusers', in fp32. Random modulations, so that no part stays silent."""
    torch.manual_seed(seed)
    ours = HeliosTransformer(c).eval().requires_grad_(False)
    for p in ours.parameters():
        p.copy_(torch.randn_like(p) / max(1, p.shape[-1]) ** 0.5)
    theirs = (
        library("diffusers")
        .HeliosTransformer3DModel(
            num_attention_heads=c.heads,
            attention_head_dim=c.head_dim,
            in_channels=c.channels,
            out_channels=c.channels,
            text_dim=c.text_dim,
            ffn_dim=c.feed_forward,
            num_layers=c.layers,
            rope_dim=c.rope_axes,
            rope_theta=c.rope_theta,
        )
        .eval()
    )
    state = {n: p for n, p in ours.state_dict().items() if not n.startswith("semantic_pack")}
    theirs.load_state_dict(state, strict=True)
    return ours, theirs


def scheduler_of_the_checkpoint() -> Any:
    """diffusers' scheduler with Helios-Distilled's settings. It hands a tensor to numpy in a way that numpy 2
    deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array_wrap__", DeprecationWarning)
        return library("diffusers").HeliosDMDScheduler(use_dynamic_shifting=True)


def inputs(c: HeliosConfig, batch: int, stage: int, seed: int = 1) -> dict[str, Tensor]:
    """Of one call of ours, besides ψ."""
    g = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=g)

    full = (c.channels, c.latent_height, c.latent_width)
    return {
        "x": some(c.segment, c.channels, *c.stage_size(stage)),
        "timestep": torch.randint(0, 1000, (batch,), generator=g),
        "text": some(c.text_tokens, c.text_dim),
        "history": some(sum(c.history), *full),
        "anchor": some(1, *full),
    }


def ours_on(model: HeliosTransformer, given: dict[str, Tensor], **more: Tensor) -> Tensor:
    """Our answer, with the text projected on the way."""
    rest = {name: x for name, x in given.items() if name != "text"}
    out: Tensor = model(**rest, projected=model.project(given["text"]), **more)
    return out


def theirs_on(model: Any, c: HeliosConfig, given: dict[str, Tensor]) -> Tensor:
    """diffusers' answer to the same, in our order of axes."""
    x, history, anchor = (given[n].transpose(1, 2) for n in ("x", "history", "anchor"))
    far, middle, near = history.split(c.history, 2)
    index = torch.arange(1 + sum(c.history) + c.segment)[None]
    first, long, mid, short, noisy = index.split([1, *c.history, c.segment], 1)
    answer = model(
        hidden_states=x,
        timestep=given["timestep"],
        encoder_hidden_states=given["text"],
        indices_hidden_states=noisy,
        indices_latents_history_short=torch.cat([first, short], 1),
        indices_latents_history_mid=mid,
        indices_latents_history_long=long,
        latents_history_short=torch.cat([anchor, near], 2),
        latents_history_mid=middle,
        latents_history_long=far,
        return_dict=False,
    )[0]
    out: Tensor = answer.transpose(1, 2)
    return out


def at(height: int, width: int, **changes: Any) -> HeliosConfig:
    """SMALL for a picture of that many pixels."""
    return replace(SMALL, latent_height=height // 8, latent_width=width // 8, **changes)
