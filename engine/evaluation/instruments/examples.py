"""Training data of the instruments: rendered frames with labels, half of them sent through the autoencoder.

The autoencoder makes generated frames soft. An instrument that was trained on sharp frames only would mistake
softness for a wrong attribute.

Legend: N frames, CELLS = 20 columns of 8 pixels each.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from engine.model.pixels import to_bytes, to_unit
from engine.model.wander.autoencoder import Autoencoder
from engine.world.attributes import FRAMES_PER_LATENT, WIDTH
from engine.world.drawing.labels import labels
from engine.world.drawing.render import render
from engine.world.episodes import Episodes, sample_episodes

CELL_PX = 8
CELLS = WIDTH // CELL_PX
LATENTS = 2  # the second one is used, since the first one of a scene decodes differently
PER_CLIP = 2  # frames taken from one clip through the autoencoder


@dataclass(frozen=True)
class Examples:
    """Frames with their labels."""

    frames: Tensor  # (N, 3, 96, 160) uint8
    attributes: Tensor  # (N, 5) int64
    present: Tensor  # (N, CELLS) bool: the middle of a landmark is in this cell
    kind: Tensor  # (N, CELLS) int64, where present
    colour: Tensor  # (N, CELLS) int64, where present
    offset: Tensor  # (N, CELLS) px from the middle of the cell, where present

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: Tensor | slice) -> Examples:
        return Examples(*(getattr(self, f.name)[rows] for f in fields(self)))

    def newest(self, limit: int, *more: Examples) -> Examples:
        """The first `limit` examples of `more` followed by these."""
        parts = (*more, self)
        return Examples(*(torch.cat([getattr(p, f.name) for p in parts])[:limit] for f in fields(self)))


def _label(episodes: Episodes, frames: Tensor, row: Tensor, at: Tensor) -> Examples:
    """Examples of the frames `at` of the rows `row` of constant episodes."""
    known = labels(episodes)
    index = (row, at)
    seen = known.landmark_visible[index]  # (N, S)
    x = known.landmark_x[index]
    cell = (x / CELL_PX).floor().long().clamp(0, CELLS - 1)
    n, device = len(row), frames.device
    present = torch.zeros(n, CELLS, dtype=torch.bool, device=device)
    kind = torch.zeros(n, CELLS, dtype=torch.int64, device=device)
    colour, offset = torch.zeros_like(kind), torch.zeros(n, CELLS, device=device)
    who, slot = seen.nonzero(as_tuple=True)
    where = (who, cell[who, slot])
    present[where] = True
    kind[where] = known.landmark_kind[index][who, slot]
    colour[where] = known.landmark_colour[index][who, slot]
    offset[where] = x[who, slot] - (cell[who, slot] + 0.5) * CELL_PX
    return Examples(frames, known.attributes[index], present, kind, colour, offset)


@torch.no_grad()
def sharp(count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Examples:
    """`count` rendered frames, each from a different world without changes."""
    episodes = sample_episodes(count, 1, generator, changes=0.0, device=device)
    at = torch.randint(FRAMES_PER_LATENT, (1,), generator=generator)
    frames = render(episodes, int(at), int(at) + 1)[:, 0]
    row = torch.arange(count, device=device)
    return _label(episodes, frames, row, at.to(device).expand(count))


@torch.no_grad()
def soft(clips: int, autoencoder: Autoencoder, generator: torch.Generator) -> Examples:
    """PER_CLIP frames of each of `clips` rendered clips, after the autoencoder."""
    device = autoencoder.mean.device
    episodes = sample_episodes(clips, LATENTS, generator, changes=0.0, device=device)
    z = autoencoder.encode(to_unit(render(episodes)))
    pixels = to_bytes(autoencoder.decode(z, torch.zeros_like(z[:, 0]))[0])
    late = torch.rand(clips, FRAMES_PER_LATENT, generator=generator).argsort(1)[:, :PER_CLIP]
    at = ((LATENTS - 1) * FRAMES_PER_LATENT + late).flatten().to(device)
    row = torch.arange(clips, device=device).repeat_interleave(PER_CLIP)
    return _label(episodes, pixels[row, at], row, at)
