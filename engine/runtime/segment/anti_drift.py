"""Holds each latent channel's mean and deviation near the anchor's, so that colours drift less over hours.

An option of the model (`ModelSpec.anti_drift`), off by default: a share between 0 and 1 of the difference is
taken back after every segment. It acts until the scene's prompt changes, since afterwards the anchor no
longer has the colours that are asked for. Backends and prompts are unknown here.

Legend: W latent frames, C channels, h w latent size.
"""

from __future__ import annotations

import numpy as np

from engine.types import FloatArray

SPACE = (-2, -1)
LEAST = 1e-3  # deviation of a channel that counts as flat


def held(latents: FloatArray, anchor: FloatArray, strength: float) -> FloatArray:
    """(W, C, h, w) and the anchor (1, C, h, w) → latents whose channels, over the whole segment, are moved by
    `strength` towards the anchor's mean and deviation."""
    mean, wanted_mean = latents.mean((0, *SPACE)), anchor.mean((0, *SPACE))
    std, wanted_std = latents.std((0, *SPACE)), anchor.std((0, *SPACE))
    flat = (std < LEAST) | (wanted_std < LEAST)
    scale = np.where(flat, 1, 1 + strength * (wanted_std / np.maximum(std, LEAST) - 1))
    moved = mean + strength * (wanted_mean - mean)
    out = (latents - mean[:, None, None]) * scale[:, None, None] + moved[:, None, None]
    held_latents: FloatArray = out.astype(np.float32)
    return held_latents
