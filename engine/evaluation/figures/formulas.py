"""VBench's formulas for consistency, smoothness and dynamics on numbers that the caller has measured.

VBench (arXiv 2311.17982, its code at version 0.1.5) takes features from CLIP and DINO, in-between frames from
AMT and motion from RAFT. Here the caller brings features, motion and pictures; what replaces what is said in
docs/evaluation.md. Knows no network.

Legend: N frames, D features, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.world.attributes import WALK_PX_PER_FRAME

LAYERS = (0, 1, 2)  # a walk moves the layers of the picture by so many px per frame
WINDOW_PX = 9


def consistency(features: Tensor) -> float:
    """Subject and background consistency: features (N, D) in order of time → mean over frames 1 … N − 1 of
    [max(0, cos(f_i, f_{i−1})) + max(0, cos(f_i, f_0))] / 2."""
    f = F.normalize(features.float(), dim=-1)
    to_last = (f[1:] * f[:-1]).sum(-1).clamp(min=0)
    to_first = (f[1:] * f[:1]).sum(-1).clamp(min=0)
    return float(((to_last + to_first) / 2).mean())


@torch.no_grad()
def smoothness(frames: Tensor) -> float:
    """Motion smoothness: frames (N, 3, H, W) uint8 → (255 − mean |odd frame − its prediction|) / 255, the
    prediction made from the even frames on either side.

    AMT's place is taken by the world's own motions: of the shifts that a walk gives its layers, either way,
    every pixel takes the one by which its two neighbours in time agree best around it. The odd frame itself
    is not looked at."""
    odd = range(1, len(frames) - 1, 2)
    errors = [float((_between(frames[i - 1], frames[i + 1]) - frames[i].float()).abs().mean()) for i in odd]
    return (255 - sum(errors) / len(errors)) / 255


def _between(earlier: Tensor, later: Tensor) -> Tensor:
    """Two pictures (3, H, W) a frame apart on either side → the picture between them."""
    shifts = sorted({sign * px for px in LAYERS for sign in (-1, 1)})
    a = torch.stack([_shifted(earlier, s) for s in shifts])
    b = torch.stack([_shifted(later, -s) for s in shifts])
    gap = F.avg_pool2d((a - b).abs().mean(1, keepdim=True), WINDOW_PX, 1, WINDOW_PX // 2)
    choice = gap.argmin(0, keepdim=True).expand(1, 3, -1, -1)
    return ((a + b) / 2).gather(0, choice)[0]


def _shifted(picture: Tensor, px: int) -> Tensor:
    """What stands at x + px, at x; the edge repeats."""
    width = picture.shape[-1]
    return picture.float()[..., (torch.arange(width) + px).clamp(0, width - 1)]


def is_dynamic(px_per_frame: Tensor, fps: int, height: int, width: int) -> bool:
    """Dynamic degree of one video: how fast its fastest twentieth moves in every frame (N,) → whether at
    least round(4 N' / 16) of the N' frames that are left at 8 a second move by more than 6 min(H, W) /
    256."""
    interval = max(1, round(fps / 8))
    sampled = px_per_frame[::interval].abs() * interval
    limit = max(1.0, 8 / fps) * 6 * min(height, width) / 256
    return int((sampled[1:] > limit).sum()) >= round(4 * len(sampled) / 16)


assert max(LAYERS) == WALK_PX_PER_FRAME
