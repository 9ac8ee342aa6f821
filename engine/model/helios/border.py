"""Fades the jump at a segment's border: an option of the decoder, off by default.

Helios decodes every segment alone, so nothing makes its first frame continue the last one before it.
What differs at the border in coarse squares (colour and brightness, which is what flickers) is added to the
first frames, less and less. Details are left alone, since blending them would show two pictures at once. The
state is that last frame's squares, so sessions, snapshots and replays keep it as they do any decoder's.

Legend: B batch, T frames of a segment, H W pixels, S size of the state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQUARE = 32  # pixels
MOST = 64.0  # levels: a larger difference is a cut or a new scene, and is left as it is


def state_size(height: int, width: int) -> int:
    """A number that says whether there is a segment before, and the squares of its last frame."""
    return 1 + 3 * (height // SQUARE) * (width // SQUARE)


class FadedBorder(nn.Module):
    """`frames` of every segment are faded."""

    def __init__(self, decoder: nn.Module, frames: int) -> None:
        super().__init__()
        self.decoder, self.frames = decoder, frames

    def forward(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of a segment, state (B, S) → frames (B, T, 3, H, W) uint8, next state (B, S). A state of
        zeros has no segment before."""
        frames: Tensor = self.decoder(latents)
        t, c, height, width = frames.shape[1:]
        rows, columns = height // SQUARE, width // SQUARE
        before = state[:, 1:].unflatten(1, (c, rows, columns))
        change = before - squares(frames[:, 0])
        small = (change.abs().amax((1, 2, 3)) <= MOST) & (state[:, 0] > 0)
        smooth = F.interpolate(change, (height, width), mode="bilinear", align_corners=False)
        smooth = torch.where(small[:, None, None, None], smooth, torch.zeros_like(smooth))
        share = 1 - torch.arange(1, self.frames + 1, device=frames.device) / (self.frames + 1)
        share = F.pad(share, (0, t - self.frames))[:, None, None, None]
        faded = (frames.float() + share * smooth[:, None]).clamp(0, 255)
        faded = (faded + 0.5).to(torch.uint8)
        last = squares(faded[:, -1]).flatten(1)
        return faded, torch.cat([torch.ones_like(last[:, :1]), last], 1)


def squares(frame: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 → the mean of each square (B, 3, H / 32, W / 32)."""
    return F.avg_pool2d(frame.float(), SQUARE)
