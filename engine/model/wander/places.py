"""Structure W: a memory of places. It is ours, beside the paper's structures A, B and C
(engine.model.memory).

If actions move the camera by known amounts, a latent column of a picture is a column of the world. In the
paper's terms, Memorize cuts a segment into such columns, one window per column and layer, and Squeeze keeps
the first unobstructed view of each place. A new view replaces it only after the prompt has changed the look
of the place. It is the first view because places that are redrawn from their latest drawing fade: each
drawing loses a little and becomes the reference for the next.

An odometer p counts the camera's steps. With each step layer l moves by s = `layer_steps[l]` columns of its
grid, and a cell of the picture is g = `layer_grid[l]` columns wide, so cell x shows column s p + g x. The
middle layer moves by half a cell per step: its grid counts half cells, and the views of odd steps lie between
those of even ones. Each layer is a ring with a fixed number of columns, so ψ has a constant size. Columns
more than a ring behind the camera are forgotten.

Prompts and the network are unknown here. These are pure functions made of gathers and scatters, so that they
can be exported.

Legend: B batch, W latent frames of a segment, C h w latent, l one of L layers, N columns of all rings.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from engine.model.config import CameraConfig

MARKS = 4  # numbers kept with a view: is there one, its column, its look, the camera's motion
SEEN, NUMBER, LOOK, MOTION = range(MARKS)
UNSETTLED = 0.5  # subtracted from the look of views that are taken during a change


class Places(NamedTuple):
    views: Tensor  # (B, N, C, h)
    marks: Tensor  # (B, N, 4), zero where there is no view

    @classmethod
    def empty(cls, batch: int, channels: int, height: int, camera: CameraConfig) -> Places:
        columns = sum(camera.rings)
        return cls(torch.zeros(batch, columns, channels, height), torch.zeros(batch, columns, MARKS))

    def to(self, device: torch.device | str) -> Places:
        return Places(self.views.to(device), self.marks.to(device))


class Recalled(NamedTuple):
    """The views of the places that a segment will show."""

    views: Tensor  # (B, W, L, C, h, w), zero where unknown
    known: Tensor  # (B, W, L, w) 1 where there is a view
    current: Tensor  # (B, W, L, w) 1 where it was seen under the current look
    motion: Tensor  # (B, W, L, w) -1, 0, 1: the camera's motion when it was seen


def columns_shown(odometer: Tensor, width: int, camera: CameraConfig) -> tuple[Tensor, Tensor]:
    """odometer (B, W) at the end of each frame → the numbers of the columns shown (B, W, L, w), and their
    places in the rings (B, W, L, w)."""
    device = odometer.device
    step = torch.tensor(camera.layer_steps, device=device)[:, None]
    grid = torch.tensor(camera.layer_grid, device=device)[:, None]
    rings = torch.tensor(camera.rings, device=device)[:, None]
    number = step * odometer[:, :, None, None] + grid * torch.arange(width, device=device)
    return number, number % rings + (rings.cumsum(0) - rings)


def recall(places: Places, odometer: Tensor, look: Tensor, width: int, camera: CameraConfig) -> Recalled:
    """odometer (B, W) int64 at the end of each frame; look (B,), the number of the current prompt."""
    number, where = columns_shown(odometer, width, camera)
    b, frames, layers, _ = number.shape
    flat = where.flatten(1)
    marks = places.marks.gather(1, flat[..., None].expand(-1, -1, MARKS)).unflatten(1, where.shape[1:])
    known = ((marks[..., SEEN] > 0) & (marks[..., NUMBER] == number)).float()
    index = flat[..., None, None].expand(-1, -1, *places.views.shape[2:])
    views = places.views.gather(1, index).reshape(b, frames, layers, width, *places.views.shape[2:])
    return Recalled(
        views=(views * known[..., None, None]).permute(0, 1, 2, 4, 5, 3),
        known=known,
        current=known * (marks[..., LOOK] == look[:, None, None, None]).float(),
        motion=known * marks[..., MOTION],
    )


def keep(
    places: Places,
    segment: Tensor,
    *,
    odometer: Tensor,
    step: Tensor,
    look: Tensor,
    stamp: Tensor,
    landmark: Tensor,
    camera: CameraConfig,
) -> Places:
    """ψ′ = Squeeze(ψ, Memorize(segment)): keep the segment's unobstructed columns where there is no view yet,
    or only a view of another look.

    segment (B, W, C, h, w); odometer (B, W) int64 at the end of each frame; step (B, W) during it; look (B,);
    stamp (B, W), the look to store, or another number during a change; landmark (B, W, w), 1 where a landmark
    hides the layers behind it. A camera without `places` keeps nothing."""
    if not camera.places:
        return places
    views, marks = places
    width = segment.shape[-1]
    number, where = columns_shown(odometer, width, camera)
    layers = number.shape[2]
    column = torch.arange(width, device=segment.device)
    hero = (column >= camera.hero[0]) & (column < camera.hero[1])
    near = torch.arange(layers, device=segment.device)[:, None] == 0
    for j in range(segment.shape[1]):
        clear = (~hero & (near | (landmark[:, j, None] < 0.5))).flatten(1)  # (B, L w)
        at, asked = where[:, j].flatten(1), number[:, j].flatten(1).float()
        old = marks.gather(1, at[..., None].expand(-1, -1, MARKS))
        kept = (old[..., SEEN] > 0) & (old[..., NUMBER] == asked) & (old[..., LOOK] == look[:, None])
        taken = clear & ~kept
        new = torch.stack(
            [
                torch.ones_like(asked),
                asked,
                stamp[:, j, None].expand_as(asked),
                step[:, j, None].float().expand_as(asked),
            ],
            -1,
        )
        marks = marks.scatter(1, at[..., None].expand(-1, -1, MARKS), torch.where(taken[..., None], new, old))
        index = at[..., None, None].expand(-1, -1, *views.shape[2:])
        seen = segment[:, j].permute(0, 3, 1, 2).repeat(1, layers, 1, 1)  # (B, L w, C, h)
        views = views.scatter(1, index, torch.where(taken[..., None, None], seen, views.gather(1, index)))
    return Places(views, marks)
