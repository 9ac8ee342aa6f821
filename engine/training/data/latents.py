"""The pool of encoded episodes that the DiT trains on. They are rendered, encoded and kept on disk, so that
resumed runs and other runs with the same autoencoder can use them again.

Legend: E episodes, L latent frames of an episode, C h w latent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.model.pixels import to_unit
from engine.model.wander.autoencoder import Autoencoder
from engine.training.data.ring import Ring, part_generator
from engine.world.attributes import FRAMES_PER_LATENT
from engine.world.drawing.landmarks import plan
from engine.world.drawing.render import render
from engine.world.episodes import sample_episodes
from engine.world.motion import LATENT_PX, walk_and_jump

PART = 8  # episodes
PLANNED = 8  # landmarks in an episode's plan


@dataclass
class Pool:
    latents: Tensor  # (E, L, C, h, w) fp16, normalised
    attributes: Tensor  # (E, L, 5) int64, the targets in force
    actions: Tensor  # (E, L) int64
    odometer: Tensor | None = None  # (E, L) int64, camera steps up to the end of each frame
    landmarks: Tensor | None = None  # (E, M, 4), see engine.model.wander.hints

    def __post_init__(self) -> None:
        """Defaults: the odometer counts from the first frame, and no landmarks are planned."""
        if self.odometer is None:
            self.odometer = walk_and_jump(self.actions)[0].cumsum(1)
        if self.landmarks is None:
            self.landmarks = torch.zeros(len(self.latents), PLANNED, 4)

    def __len__(self) -> int:
        return len(self.latents)

    @classmethod
    def empty(
        cls, episodes: int, length: int, frame: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> Pool:
        """Memory for that many episodes. Pages that are never written cost nothing."""
        return cls(
            torch.empty(episodes, length, *frame, dtype=torch.float16, device=device),
            torch.zeros(episodes, length, 5, dtype=torch.int64),
            torch.zeros(episodes, length, dtype=torch.int64),
        )

    def put(self, at: int, part: Pool) -> None:
        """Store episodes from position `at` on."""
        rows = slice(at, at + len(part))
        for name, value in vars(part).items():
            getattr(self, name)[rows] = value

    def first(self, count: int) -> Pool:
        """A view of the first `count` episodes, in the same memory."""
        return Pool(**{name: value[:count] for name, value in vars(self).items()})


@dataclass(frozen=True)
class Source:
    """A stream of episodes: the autoencoder, and the settings that they are drawn with."""

    autoencoder: Autoencoder
    name: str  # of the stream; another name gives other episodes
    length: int  # latent frames
    changes: float = 3.0
    journeys: float = 0.25
    seed: int = 0
    cache: Path | None = None  # a folder of `cache_folder`
    device: torch.device | str = "cpu"

    @torch.no_grad()
    def make(self, part: int, count: int = PART) -> Pool:
        """Render and encode `count` episodes, or read them from the cache."""
        path = self.path(part)
        if path is not None and path.exists():
            try:
                return Pool(**load_file(path))
            except (SafetensorError, OSError, TypeError):
                path.unlink(missing_ok=True)  # damaged
        generator = part_generator(self.seed, self.name, part)
        episodes = sample_episodes(
            count, self.length, generator, changes=self.changes, journeys=self.journeys, device=self.device
        )
        frames = render(episodes)
        latents = torch.cat([self.autoencoder.encode(to_unit(rows)).half() for rows in frames.split(2)])
        pool = Pool(
            latents.cpu(),
            episodes.attributes.cpu(),
            episodes.actions.cpu(),
            odometer=(episodes.camera[:, FRAMES_PER_LATENT - 1 :: FRAMES_PER_LATENT] / LATENT_PX)
            .long()
            .cpu(),
            landmarks=plan(episodes.camera, episodes.seed, PLANNED).cpu(),
        )
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(vars(pool), path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
        return pool

    def path(self, part: int) -> Path | None:
        rules = f"{self.name}-{self.length}-{self.changes:g}-{self.journeys:g}-{self.seed}"
        return self.cache and self.cache / f"{rules}-{part:05d}.safetensors"


def cache_folder(root: Path, autoencoder: Autoencoder) -> Path:
    """The folder for latents of exactly this encoder. The decoder may differ."""
    key = hashlib.sha256()
    for name, tensor in autoencoder.state_dict().items():
        if not name.startswith("decoder"):
            key.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return root / key.hexdigest()[:16]


class EpisodePool:
    """A growing, bounded pool of one source. With `forget`, dropped episodes are deleted from disk too."""

    def __init__(
        self,
        source: Source,
        *,
        start: int,
        limit: int,
        every: int,
        forget: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.source, self.forget, self.device = source, forget, device
        self.room: Pool | None = None
        self.ring = Ring(
            self._make, self._put, start=-(-start // PART), limit=max(1, limit // PART), every=every
        )

    def at(self, step: int) -> Pool:
        """The pool at this step. Missing episodes are made."""
        self.ring.advance(step)
        assert self.room is not None
        return self.room.first(len(self.ring) * PART)

    def _make(self, part: int) -> Pool:
        old = self.source.path(part - self.ring.limit) if self.forget else None
        if old is not None:
            old.unlink(missing_ok=True)
        made = self.source.make(part)
        if part < self.ring.start:
            print(f"{self.source.name}: {PART * (part + 1)} of {PART * self.ring.start} episodes", flush=True)
        return made

    def _put(self, place: int, part: Pool) -> None:
        if self.room is None:
            episodes = PART * self.ring.limit
            self.room = Pool.empty(episodes, part.latents.shape[1], part.latents.shape[2:], self.device)
        self.room.put(place * PART, part)
