"""What the denoiser is given besides the noisy segment, by name.

These are the inputs of the role `denoise` of the step contract (engine.model.signature). This is the only
place that takes them apart; training, sampling and the exported roles all use it.

Legend: B batch, W latent frames of a segment, C channels, h w latent size, K history frames, N text tokens,
E their width, P width of the pooled prompt, I image tokens, M memory tokens, D width of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    psi: Tensor  # (B, M, D) the memory
    text: Tensor  # (B, N, E) the prompt's tokens
    pooled: Tensor  # (B, P) the prompt as one vector
    image: Tensor  # (B, I, D) image tokens of the anchor
    history: Tensor  # (B, K, C, h, w) the last clean latents, in order of time
    anchor: Tensor  # (B, 1, C, h, w) latent of the reference image
    context: Tensor  # (B,) 1 where anchor and history hold a scene, 0 at the start of one
    sigma: Tensor  # (B,) noise level of the history
    index: Tensor  # (B,) number of the segment within its scene
    actions: Tensor | None = None  # (B, W) int64; None for a model that knows one action only
    psi_mask: Tensor | None = None  # (B, M) 1 for tokens that count; None where all of them do
    text_mask: Tensor | None = None  # (B, N) the same for the prompt's tokens
    hints: Tensor | None = None  # (B, W, H, h, w) channels beside the noise (engine.model.wander.hints)
    scenery: Tensor | None = None  # (B, W, L, w/2) int64, the scenery's columns (engine.model.wander.hints)
    bare: bool = False  # training on scenes from nothing: no history exists, so its tokens are left out

    def map(self, change: Callable[[Tensor], Tensor]) -> Conditions:
        """The same with every tensor changed, for example cut to some rows or cast to another type."""
        tensors = {n: x for n, x in vars(self).items() if isinstance(x, Tensor)}
        changed: dict[str, Any] = {name: change(x) for name, x in tensors.items()}
        return replace(self, **changed)


class DenoiseInputs(NamedTuple):
    """The arguments of one call of a denoiser."""

    x: Tensor  # (B, W, C, h, w) the noisy segment
    t: Tensor  # (B,) 0 is noise, 1 is data
    d: Tensor  # (B,) length of the jump
    given: Conditions


def denoise_inputs(named: Mapping[str, Tensor]) -> DenoiseInputs:
    """From the inputs of the role `denoise` by name. Inputs that only one family has are left to it."""
    known: dict[str, Any] = {f.name: named[f.name] for f in fields(Conditions) if f.name in named}
    return DenoiseInputs(named["x"], named["t"], named["d"], Conditions(**known))


def no_motion(text: Tensor) -> Tensor:
    """(B, 2) what `encode_text` answers of a model with one action: no prompt asks for motion."""
    return torch.tensor([1.0, 0.0], device=text.device).expand(text.shape[0], -1)
