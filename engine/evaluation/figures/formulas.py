"""VBench's formulas for consistency, smoothness and dynamics, applied to measurements of the caller.

VBench (arXiv 2311.17982, its code at version 0.1.5) takes features from CLIP and DINO, in-between frames from
AMT and motion from RAFT. Here the caller passes features, motion and pictures; docs/evaluation.md says what
replaces what. Contains no networks.

Legend: N frames, D features, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.world.attributes import WALK_PX_PER_FRAME

LAYERS = (0, 1, 2)  # px per frame by which a walk moves the layers of the picture
WINDOW_PX = 9


def consistency(features: Tensor) -> float:
    """Subject or background consistency of features (N, D) in order of time: the mean over frames 1 … N − 1
    of [max(0, cos(f_i, f_{i−1})) + max(0, cos(f_i, f_0))] / 2."""
    f = F.normalize(features.float(), dim=-1)
    to_last = (f[1:] * f[:-1]).sum(-1).clamp(min=0)
    to_first = (f[1:] * f[:1]).sum(-1).clamp(min=0)
    return float(((to_last + to_first) / 2).mean())


@torch.no_grad()
def smoothness(frames: Tensor) -> float:
    """Motion smoothness of frames (N, 3, H, W) uint8: (255 − mean |odd frame − its prediction|) / 255. The
    prediction uses the even frames on either side.

    The world's own motions replace AMT. A walk shifts each layer by one of a few amounts, in either
    direction; every pixel takes the shift for which the frames before and after agree best around it. The odd
    frame itself is not used."""
    odd = range(1, len(frames) - 1, 2)
    errors = [float((_between(frames[i - 1], frames[i + 1]) - frames[i].float()).abs().mean()) for i in odd]
    return (255 - sum(errors) / len(errors)) / 255


def _between(earlier: Tensor, later: Tensor) -> Tensor:
    """The frames before and after, (3, H, W) each → the predicted frame between them."""
    shifts = sorted({sign * px for px in LAYERS for sign in (-1, 1)})
    a = torch.stack([_shifted(earlier, s) for s in shifts])
    b = torch.stack([_shifted(later, -s) for s in shifts])
    gap = F.avg_pool2d((a - b).abs().mean(1, keepdim=True), WINDOW_PX, 1, WINDOW_PX // 2)
    choice = gap.argmin(0, keepdim=True).expand(1, 3, -1, -1)
    return ((a + b) / 2).gather(0, choice)[0]


def _shifted(picture: Tensor, px: int) -> Tensor:
    """The picture moved left by `px`, with its edge repeated."""
    width = picture.shape[-1]
    return picture.float()[..., (torch.arange(width) + px).clamp(0, width - 1)]


def is_dynamic(px_per_frame: Tensor, fps: int, height: int, width: int) -> bool:
    """Dynamic degree of one video. `px_per_frame` (N,) is the speed of the fastest twentieth of each frame.
    The video is dynamic if at least round(4 N' / 16) of its N' frames, sampled at 8 fps, move by more than
    6 min(H, W) / 256 px."""
    interval = max(1, round(fps / 8))
    sampled = px_per_frame[::interval].abs() * interval
    limit = max(1.0, 8 / fps) * 6 * min(height, width) / 256
    return int((sampled[1:] > limit).sum()) >= round(4 * len(sampled) / 16)


assert max(LAYERS) == WALK_PX_PER_FRAME
