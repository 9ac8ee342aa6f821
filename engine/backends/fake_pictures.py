"""How the fake backend's latents look: engine.backends.fake says which channel means what.

Legend: C channels, h w latent size, F pixel frames, H W pixels.
"""

from __future__ import annotations

import zlib

import numpy as np

from engine.model.signature import ModelSpec
from engine.types import ByteArray, FloatArray

STRIPE_PX, JUMP_PX = 32, 24  # stripe period, height of a jump


def draw(s: ModelSpec, last: FloatArray, latent: FloatArray, busy: float) -> ByteArray:
    """(F, 3, H, W): the frames from the last latent frame to this one."""
    n = s.frames_per_latent
    level = np.nan_to_num(latent)
    rows = np.arange(s.height) * s.latent_height // s.height
    columns = np.arange(s.width) * s.latent_width // s.width
    big = level[:, rows][:, :, columns]  # (C, H, W)
    ground, band = s.height * 3 // 4, s.height // 12
    picture = big[:3] * 255
    picture[:, ground:] = picture[:, ground:] * 0.5 + 12 * np.clip(big[6, ground:], -2, 2)
    picture[:, :band] = 128 + 64 * np.clip(big[5, :band], -2, 2)
    frames = np.empty((n, 3, s.height, s.width), np.float32)
    moved = (level[3, 0, 0] - np.nan_to_num(last)[3, 0, 0] + 0.5) % 1.0 - 0.5
    high, wide, left = s.height // 5, s.width // 12, s.width * 11 // 24
    for f in range(n):
        back = 1 - (f + 1) / n
        camera = level[3, 0, 0] - moved * back
        light = ((np.arange(s.width) / STRIPE_PX + camera) % 1.0 < 0.5).astype(np.float32)
        frames[f] = picture * (0.75 + 0.25 * light)
        up = round(float(np.clip(level[4, 0, 0] + (last[4, 0, 0] - level[4, 0, 0]) * back, 0, 1)) * JUMP_PX)
        frames[f, :, max(0, ground - high - up) : ground - up, left : left + wide] = [
            [[250]],
            [[120]],
            [[20]],
        ]
    if busy:
        dice = np.random.default_rng(zlib.crc32(latent.tobytes()))
        flicker = dice.standard_normal((n, 1, s.height, s.width))
        frames += (busy * flicker).astype(np.float32)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)
