"""Selects windows of the pool to train on: near changes, at the start of scenes, and on the way back.

Legend: E episodes, L latent frames of an episode, B windows, W latent frames of a segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.training.data.latents import Pool
from engine.world.attributes import WIDTH
from engine.world.motion import LATENT_PX, walk_and_jump

REACH = 19  # latent frames of the history; only ψ knows older ones
SCREEN = WIDTH // LATENT_PX  # latent frames of walking until the whole screen is new


@dataclass(frozen=True)
class Windows:
    """Positions of consecutive whole segments in the pool, the first of them at latent frame `start`."""

    episode: Tensor  # (B,)
    start: Tensor  # (B,) latent frame
    scene: Tensor  # (B,) latent frame at which the scene begins; its latent is the anchor


def change_age(attributes: Tensor) -> Tensor:
    """(E, L, 5) → (E, L): latent frames since the last change of any attribute; a large number if there was
    none."""
    changed = (attributes[:, 1:] != attributes[:, :-1]).any(-1)
    at = torch.arange(attributes.shape[1])
    latest = torch.where(torch.cat([torch.zeros_like(changed[:, :1]), changed], 1), at, -1000)
    return at - latest.cummax(1).values


def sample_windows(
    pool: Pool, batch: int, segment: int, segments: int, *, fresh: float, long_scene: bool = False
) -> Windows:
    """Segments to train on. Half are in or just after a change, and a share `fresh` starts a scene.

    A change begins at a segment's first frame, as in a live session, and never in the first segment."""
    count, length = pool.actions.shape
    last = length - segment * segments
    rows = torch.randint(0, count, (4 * batch,))
    attributes = pool.attributes[rows]
    age = change_age(attributes)[:, : last + 1]
    weight = 0.25 + 3.0 * (age < 6)
    weight[:, 0] = 0.5
    moving = walk_and_jump(pool.actions[rows])[0] != 0
    weight = weight * (0.3 + moving[:, : last + 1].float() + moving[:, 1 : last + 2].float())
    start = torch.multinomial(weight * _whole(attributes, last, segment), 1)[:, 0]
    young = (age.gather(1, start[:, None])[:, 0] < 6).float()
    keep = torch.multinomial(0.35 + young, batch)  # changes are rare in the data but not in the batch
    rows, start = rows[keep], start[keep]
    near = (start - torch.randint(1, 20, (batch,))).clamp(min=0)
    far = (torch.rand(batch) * start).long()
    scene = torch.where(torch.rand(batch) < (0.1 if long_scene else 0.35), near, far)
    scene = torch.where(torch.rand(batch) < 0.25, torch.zeros_like(scene), scene)
    scene = torch.where(torch.rand(batch) < fresh, start, scene)
    return Windows(rows, start, torch.minimum(scene, start))


def recalls(actions: Tensor) -> Tensor:
    """(E, L) → (E, L) bool: whether the column that enters the picture here was on the screen before and has
    left the history since."""
    step = walk_and_jump(actions)[0]
    left = step.cumsum(1)  # the screen's left edge, in walked latent frames
    edge = torch.where(step > 0, left + SCREEN, left)  # the column that enters
    seen = (left[:, None] <= edge[:, :, None]) & (
        edge[:, :, None] <= left[:, None] + SCREEN
    )  # (E, now, then)
    at = torch.arange(actions.shape[1])
    age = at[:, None] - at[None]
    return (step != 0) & (seen & (age > REACH)).any(-1) & ~(seen & (age > 0) & (age <= REACH)).any(-1)


def sample_journeys(pool: Pool, batch: int, segment: int, segments: int) -> Windows:
    """Chains whose first segment returns to places that only ψ knows. The scene is the whole episode."""
    length = pool.actions.shape[1]
    last = length - segment * segments
    rows = torch.randint(0, len(pool), (4 * batch,))
    whole = _whole(pool.attributes[rows], last, segment)
    ends = recalls(pool.actions[rows])[:, segment - 1 : segment + last]
    weight = (1e-3 + ends.float()) * whole
    keep = torch.multinomial(weight.sum(1), batch)
    start = torch.multinomial(weight[keep], 1)[:, 0]
    return Windows(rows[keep], start, torch.zeros_like(start))


def _whole(attributes: Tensor, last: int, segment: int) -> Tensor:
    """(B, last + 1): 1 if the segment that starts there contains no change, otherwise a tiny weight for
    episodes without any such segment."""
    whole = [(attributes[:, i] == attributes[:, i + segment - 1]).all(-1) for i in range(last + 1)]
    return torch.stack(whole, 1).float().clamp(min=1e-6)


def frames_before(pool: Pool, windows: Windows, at: Tensor, count: int) -> Tensor:
    """The `count` latent frames before `at`, zero before the scene: (B, count, C, h, w) fp32."""
    where = at[:, None] + torch.arange(-count, 0)
    inside = (where >= windows.scene[:, None])[..., None, None, None]
    return gather(pool, windows.episode, where.clamp(min=0)) * inside.to(pool.latents.device)


def gather(pool: Pool, episode: Tensor, where: Tensor) -> Tensor:
    """Latents (B, N, C, h, w) fp32 at frames `where` (B, N)."""
    device = pool.latents.device
    return pool.latents[episode[:, None].to(device), where.to(device)].float()
