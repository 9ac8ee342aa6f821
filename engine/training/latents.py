"""A pool of encoded episodes: what the DiT trains on. Rendered and encoded here, renewed while training runs.

Legend: E episodes, L latent frames of an episode, B windows, W latent frames of a segment, C h w latent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.model.autoencoder import Autoencoder, to_unit
from engine.world.episodes import sample_episodes
from engine.world.render import render


@dataclass
class Pool:
    latents: Tensor  # (E, L, C, h, w) fp16, normalised
    attributes: Tensor  # (E, L, 5) int64, the prompt in force
    actions: Tensor  # (E, L) int64

    def __len__(self) -> int:
        return len(self.latents)

    def replace(self, at: int, other: Pool) -> None:
        """Overwrite episodes from `at` on, wrapping round."""
        rows = (at + torch.arange(len(other))) % len(self)
        self.latents[rows], self.attributes[rows], self.actions[rows] = (
            other.latents,
            other.attributes,
            other.actions,
        )


@torch.no_grad()
def encode_episodes(
    model: Autoencoder, count: int, length: int, generator: torch.Generator, changes: float
) -> Pool:
    """Render `count` episodes and encode them."""
    episodes = sample_episodes(count, length, generator, changes=changes)
    frames = render(episodes)
    latents = torch.cat([model.encode(to_unit(part)).half() for part in frames.split(4)])
    return Pool(latents, episodes.attributes, episodes.actions)


def fill_pool(
    model: Autoencoder, count: int, length: int, generator: torch.Generator, changes: float, *, part: int = 16
) -> Iterator[Pool]:
    """Yield a pool of `count` episodes in parts, so that the caller can show progress."""
    for start in range(0, count, part):
        yield encode_episodes(model, min(part, count - start), length, generator, changes)


def join(parts: list[Pool]) -> Pool:
    return Pool(
        torch.cat([p.latents for p in parts]),
        torch.cat([p.attributes for p in parts]),
        torch.cat([p.actions for p in parts]),
    )


@dataclass(frozen=True)
class Windows:
    """Where segments lie in the pool: `segments` whole segments in a row, the first at latent frame
    `start`."""

    episode: Tensor  # (B,)
    start: Tensor  # (B,) latent frame
    scene: Tensor  # (B,) latent frame at which the scene begins; its latent is the anchor


def change_age(attributes: Tensor) -> Tensor:
    """(E, L, 5) → (E, L): latent frames since the last change of any attribute, large where there was
    none."""
    changed = (attributes[:, 1:] != attributes[:, :-1]).any(-1)
    age = torch.full(attributes.shape[:2], 1000)
    for i in range(1, attributes.shape[1]):
        age[:, i] = torch.where(changed[:, i - 1], 0, age[:, i - 1] + 1)
    return age


def sample_windows(
    pool: Pool, batch: int, segment: int, segments: int, *, fresh: float, long_scene: bool = False
) -> Windows:
    """Segments to train on: half of them in or just after a change, `fresh` of them the first of a scene.

    A change begins at a segment's first frame, as it does in a live session, never inside the first
    segment."""
    count, length = pool.actions.shape
    last = length - segment * segments
    rows = torch.randint(0, count, (4 * batch,))
    attributes = pool.attributes[rows]
    age = change_age(attributes)[:, : last + 1]
    whole = torch.stack(
        [(attributes[:, i] == attributes[:, i + segment - 1]).all(-1) for i in range(last + 1)], 1
    )  # no change inside the first segment
    weight = (0.25 + 3.0 * (age < 6)) * whole
    weight[:, 0] = 0.5 * whole[:, 0]
    start = torch.multinomial(weight.float(), 1)[:, 0]
    young = (age.gather(1, start[:, None])[:, 0] < 6).float()
    keep = torch.multinomial(0.35 + young, batch)  # changes are rare in the data, not in the batch
    rows, start = rows[keep], start[keep]
    near = (start - torch.randint(1, 20, (batch,))).clamp(min=0)
    far = (torch.rand(batch) * start).long()
    scene = torch.where(torch.rand(batch) < (0.1 if long_scene else 0.35), near, far)
    scene = torch.where(torch.rand(batch) < 0.25, torch.zeros_like(scene), scene)
    scene = torch.where(torch.rand(batch) < fresh, start, scene)
    return Windows(rows, start, torch.minimum(scene, start))


def frames_before(pool: Pool, windows: Windows, at: Tensor, count: int) -> Tensor:
    """The `count` latent frames before `at`, zero before the scene began: (B, count, C, h, w) fp32."""
    where = at[:, None] + torch.arange(-count, 0)
    inside = (where >= windows.scene[:, None])[..., None, None, None]
    return pool.latents[windows.episode[:, None], where.clamp(min=0)].float() * inside


def frames_from(pool: Pool, windows: Windows, at: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (B, count, C, h, w), actions (B, count), attributes at the last of them (B, 5)."""
    where = at[:, None] + torch.arange(count)
    episode = windows.episode[:, None]
    return (
        pool.latents[episode, where].float(),
        pool.actions[episode, where],
        pool.attributes[windows.episode, where[:, -1]],
    )
