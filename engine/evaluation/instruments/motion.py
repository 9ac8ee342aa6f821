"""Estimates the camera's motion from the pictures alone.

The ground moves with the camera; the hero's columns are left out. For every latent frame the estimator looks
for one speed that explains all pairs among its frames and the frame before: it maximises the normalised
correlation of the ground band, shifted by speed x time difference. Two problems are handled:

- Rain and snow dominate by their contrast. So bright objects thinner than 9 px are removed first, by a
horizontal opening.
- Generated ground can be so faint that static content (a shade, a smear) dominates. So a second correlation
is added, of the band minus its mean over 13 frames. Its weight grows as standing still explains less.

Speeds up to one and a half times the walk are considered; the ground's pattern repeats every 16 px. The
figure obedience measures the estimator's accuracy on rendered video.

Legend: F pixel frames = 4 L, R rows of the band, W = 160 columns, K speeds.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.world.attributes import FRAMES_PER_LATENT, HERO_X, WALK_PX_PER_FRAME, WIDTH

BAND: Final = slice(74, 96)
HERO: Final = slice(HERO_X - 20, HERO_X + 20)
THIN_PX, BLUR_PX, CLIP = 9, 21, 2.0
AROUND: Final = 13  # frames
CHANGE_WEIGHT: Final = 3.0
FAINT: Final = 0.2  # share of the band's variance below which a change has little weight
REACH: Final = WALK_PX_PER_FRAME + 1  # px per frame
PER_PX: Final = 2  # speeds tried per px
MOVES_PX: Final = 2.0  # a latent frame that moves less counts as standing


@torch.no_grad()
def displacement(frames: Tensor) -> Tensor:
    """Consecutive frames (F, 3, 96, 160) uint8, F a multiple of 4 → px per latent frame (L,), positive when
    the camera goes right."""
    x = _relief(frames)
    all_there = _curve(x, (1, 2, 3), 0.0)
    standing = all_there[:, REACH * PER_PX].clamp(0, 1)
    changing = _curve(x - _mean_around(x), (1, 2, 3, 4), FAINT)
    score = all_there + CHANGE_WEIGHT * (1 - standing)[:, None] * changing
    return (_peak(score) / PER_PX - REACH) * FRAMES_PER_LATENT


def _relief(frames: Tensor) -> Tensor:
    """The band's texture without rain, snow and light: (F, R, W), of unit variance."""
    grey = frames[:, :, BAND].float().mean(1)
    rows = grey.flatten(0, 1)[:, None]
    eroded = -F.max_pool1d(-rows, THIN_PX, 1, THIN_PX // 2)
    opened = F.max_pool1d(eroded, THIN_PX, 1, THIN_PX // 2)
    smooth = F.avg_pool1d(opened, BLUR_PX, 1, BLUR_PX // 2, count_include_pad=False)
    x = (opened - smooth)[:, 0].view_as(grey)
    return (x / (x.flatten(1).std(1)[:, None, None] + 1e-3)).clamp(-CLIP, CLIP)


def _mean_around(x: Tensor) -> Tensor:
    """The mean of AROUND frames centred on each frame, fewer at the ends."""
    total = F.pad(x.cumsum(0), (0, 0, 0, 0, 1, 0))
    at = torch.arange(len(x))
    start, stop = (at - AROUND // 2).clamp(min=0), (at + AROUND // 2 + 1).clamp(max=len(x))
    return (total[stop] - total[start]) / (stop - start)[:, None, None]


def _curve(x: Tensor, lags: tuple[int, ...], faint: float) -> Tensor:
    """(F, R, W) → correlation at every speed (L, K), averaged over the lags."""
    latents = len(x) // FRAMES_PER_LATENT
    x = torch.cat([x[:1], x])
    speeds = torch.arange(-REACH * PER_PX, REACH * PER_PX + 1) / PER_PX
    start = torch.arange(latents) * FRAMES_PER_LATENT
    score = torch.zeros(latents, len(speeds))
    for lag in lags:
        first = torch.arange(FRAMES_PER_LATENT + 1 - lag)
        i = (start[:, None] + first).flatten()
        pairs = _correlation(x[i], x[i + lag], REACH * lag, faint).view(latents, len(first), -1)
        if len(first) > 1:
            pairs[0, 0] = pairs[0, 1]  # there is no frame before the first one
        at = speeds * lag + REACH * lag
        low = at.floor().long().clamp(max=2 * REACH * lag - 1)
        mean = pairs.mean(1)
        score += torch.lerp(mean[:, low], mean[:, low + 1], at - low)
    return score / len(lags)


def _correlation(earlier: Tensor, later: Tensor, reach: int, faint: float) -> Tensor:
    """The correlation of every pair (P, R, W) at camera shifts of −reach … reach px → (P, 2 reach + 1)."""
    ground = torch.ones(WIDTH, dtype=torch.bool)
    ground[HERO] = False
    columns = torch.arange(WIDTH)
    curves = []
    for shift in range(-reach, reach + 1):
        inside = columns[(columns + shift >= 0) & (columns + shift < WIDTH)]
        here = inside[ground[inside] & ground[inside + shift]]
        a, b = earlier[..., here + shift], later[..., here]
        norm = ((a * a).sum((1, 2)) * (b * b).sum((1, 2))).sqrt() + faint * a[0].numel() + 1e-6
        curves.append((a * b).sum((1, 2)) / norm)
    return torch.stack(curves, 1)


def _peak(score: Tensor) -> Tensor:
    """The position of the maximum of each row (L, K), refined by a parabola through its neighbours."""
    row = torch.arange(len(score))
    k = score.argmax(1).clamp(1, score.shape[1] - 2)
    left, top, right = score[row, k - 1], score[row, k], score[row, k + 1]
    bend = (left - 2 * top + right).clamp(max=-1e-9)
    return k + ((left - right) / (2 * bend)).clamp(-0.5, 0.5)
