"""What every figure is given: models that play, the world that renders the truth, and the instruments.

Contains no figures and reads no files. Models bring their own player.

Legend: F pixel frames, L latent frames, N frames in no order.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from engine.errors import ModelFilesError
from engine.evaluation.instruments.examples import sharp
from engine.evaluation.instruments.landmark_reader import LandmarkReader
from engine.evaluation.instruments.probe import GRID, Probe
from engine.model.pixels import to_bytes, to_unit
from engine.model.signature import ModelSpec
from engine.model.wander.autoencoder import Autoencoder
from engine.script import Entry
from engine.types import Action, ByteArray
from engine.world.attributes import ACTIONS, FPS, FRAMES_PER_LATENT, HEIGHT, WIDTH
from engine.world.drawing.render import render
from engine.world.episodes import from_script

SOURCES = ("model", "rendered", "rendered, through the autoencoder")
RECONSTRUCTED = SOURCES[2]
CHUNK = 64  # frames that the instruments read at once
REFERENCE_FRAMES = 400
REFERENCE_SEED = 20_240
OTHER_WORLDS = 10_000_000


class Play(Protocol):
    """An endless video, segment by segment: (F, H, W, 3) uint8 each."""

    def __call__(
        self, prompt: str, *, seed: int, script: Sequence[Entry], steps: int | None
    ) -> Generator[ByteArray, None, None]: ...


class Follow(Protocol):
    """The segment (W, C, h, w) that a model makes after a given past."""

    def __call__(
        self,
        prompt: str,
        *,
        seed: int,
        past: Tensor,
        actions: Tensor,
        landmarks: Tensor,
        noise: float | None,
    ) -> Tensor:
        """past (L, C, h, w), whole segments of one scene; actions (L + W,), constant within a segment;
        landmarks (N, 4) as in engine.model.wander.hints; the history's noise, None: the model's own."""
        ...


@dataclass(frozen=True)
class Model:
    """A model that can be measured."""

    name: str
    spec: ModelSpec
    play: Play
    autoencoder: Autoencoder
    follow: Follow | None = None

    def video(
        self, prompt: str, seed: int, segments: int, script: Sequence[Entry] = (), steps: int | None = None
    ) -> Tensor:
        """The first `segments` segments: (F, 3, 96, 160) uint8."""
        with closing(self.play(prompt, seed=seed, script=script, steps=steps)) as made:
            return torch.cat([to_tensor(frames) for frames in itertools.islice(made, segments)])

    @torch.no_grad()
    def reconstruct(self, frames: Tensor) -> Tensor:
        """Encode and decode frames with the model's autoencoder: (F, 3, 96, 160) uint8, F a multiple of 4."""
        z = self.autoencoder.encode(to_unit(frames[None]))
        out, _ = self.autoencoder.decode(z, torch.zeros_like(z[:, 0]))
        return to_bytes(out[0])

    def segments(self, seconds: float) -> int:
        """Number of segments needed to cover `seconds`."""
        return -(-round(seconds * FPS) // self.spec.frames_per_segment)


class ProbeReading(NamedTuple):
    """The probe's reading of frames: log-probabilities per field (N, values), and features of the whole
    picture from all stages (N, 224), of the background (N, 128) and of the hero's part (N, 128)."""

    fields: list[Tensor]
    whole: Tensor
    background: Tensor
    subject: Tensor

    def values(self) -> Tensor:
        """The attributes that each frame shows, (N, 5)."""
        return torch.stack([p.argmax(-1) for p in self.fields], -1)

    def values_of(self, first: int, stop: int) -> list[int]:
        """The attributes that frames [first, stop) show on average, 5 values."""
        return [int(p[first:stop].mean(0).argmax()) for p in self.fields]


@dataclass(frozen=True)
class Bench:
    """The model under test and what it is measured with."""

    model: Model
    probe: Probe
    probe_accuracy: Mapping[str, float]
    reader: LandmarkReader | None = None
    reader_accuracy: Mapping[str, float] | None = None
    others: tuple[Model, ...] = ()
    reference_frames: int = REFERENCE_FRAMES

    def look(self, frames: Tensor) -> ProbeReading:
        """The probe's reading of frames (N, 3, 96, 160) uint8."""
        return look(self.probe, frames)

    @property
    def rendered(self) -> ProbeReading:
        """The probe's reading of `reference_frames` rendered frames of random worlds, computed once per
        probe."""
        return _rendered(self.probe, self.reference_frames)

    @cached_property
    def centre(self) -> Mapping[str, Tensor]:
        """The mean features of each part over `rendered`, (128,)."""
        return {
            "background": self.rendered.background.mean(0),
            "subject": self.rendered.subject.mean(0),
        }

    @cached_property
    def spread(self) -> Tensor:
        """The standard deviation of the whole picture's features over `rendered`, (224,)."""
        return self.rendered.whole.std(0) + 1e-6

    def features(self, frames: Tensor) -> list[list[float]]:
        """Features of the whole picture in units of `spread`, (N, 224), rounded for storage."""
        return rounded(self.look(frames).whole / self.spread)


@torch.no_grad()
def look(probe: Probe, frames: Tensor) -> ProbeReading:
    """A probe's reading of frames (N, 3, 96, 160) uint8."""
    fields, pooled, grids = zip(*(probe.look(part) for part in frames.split(CHUNK)), strict=True)
    grid = torch.cat(grids)
    hero = torch.zeros(GRID, dtype=torch.bool)
    hero[1:, 4:6] = True  # 32 px around the hero's column
    parts = (torch.cat(pooled), grid[:, :, ~hero].mean(-1), grid[:, :, hero].mean(-1))
    logits = [torch.cat(part).log_softmax(-1) for part in zip(*fields, strict=True)]
    return ProbeReading(logits, *parts)


@lru_cache(maxsize=1)
def _rendered(probe: Probe, count: int) -> ProbeReading:
    generator = torch.Generator().manual_seed(REFERENCE_SEED)
    return look(probe, sharp(count, generator).frames)


def rounded(features: Tensor) -> list[list[float]]:
    """Features for a row of JSON, with three decimals."""
    return [[round(v, 3) for v in row] for row in features.tolist()]


def to_tensor(frames: ByteArray) -> Tensor:
    """(F, H, W, 3) → (F, 3, H, W)."""
    return torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).contiguous()


def truth(attributes: Tensor, actions: Tensor, seed: int, start: int = 0, stop: int | None = None) -> Tensor:
    """Rendered video: attributes (5,) or (L, 5) and actions (L,) → pixel frames [start, stop), (F, 3, 96,
    160) uint8."""
    targets = attributes.expand(len(actions), 5) if attributes.ndim == 1 else attributes
    episodes = from_script(targets[None].contiguous(), actions[None], torch.tensor([seed]))
    return render(episodes, start, stop)[0]


def other_worlds(attributes: Tensor, action: str, count: int, seed: int) -> Tensor:
    """Attributes (5,) rendered in `count` other worlds, one frame each: (count, 3, 96, 160) uint8."""
    seeds = torch.arange(count) + OTHER_WORLDS + seed * count
    actions = torch.full((count, 2), ACTIONS.index(action))
    episodes = from_script(attributes.expand(count, 2, 5).contiguous(), actions, seeds)
    last = 2 * FRAMES_PER_LATENT
    return render(episodes, last - 1, last)[:, 0]


def script_of(spec: ModelSpec, runs: Sequence[tuple[int, str]]) -> tuple[list[Entry], Tensor]:
    """Consecutive runs of (segments, action) → the script that plays them, and the action of every latent
    frame (L,)."""
    script, asked, at = [], [], 0
    for length, action in runs:
        script.append(Entry(at * spec.segment_s, Action(action)))
        asked += [ACTIONS.index(action)] * (length * spec.segment)
        at += length
    return script, torch.tensor(asked)


def check_world(name: str, spec: ModelSpec) -> None:
    """Raises ModelFilesError for a model of another world, which the instruments cannot read."""
    own = (HEIGHT, WIDTH, FPS, FRAMES_PER_LATENT, ACTIONS)
    if (spec.height, spec.width, spec.fps, spec.frames_per_latent, spec.actions) != own:
        raise ModelFilesError(
            f"{name} makes {spec.width}x{spec.height} at {spec.fps} fps with the actions "
            f"{', '.join(spec.actions)}; evaluate needs a model of the built-in world, "
            f"{WIDTH}x{HEIGHT} at {FPS} fps with {', '.join(ACTIONS)}. For other videos use --figures vbench",
            field="model",
        )
