"""A trained DiT plays without being exported: what sessions do, in torch, for models that are measured and
not served.

The same order of functions as engine.runtime.segment.generator, which serves; noise is drawn elsewhere, so
videos are others. It knows actions and one prompt per video, no change of prompt. FramePack-F0 plays here as
well as it could live, `in_blocks`.

Legend: W latent frames of a segment, C h w latent, K history frames, M memory tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from engine.errors import InvalidInput
from engine.evaluation.bench import Model
from engine.landmarks import in_view
from engine.landmarks import planned as planned_ahead
from engine.model.config import CameraConfig, ModelConfig
from engine.model.dit import MemoryPackDiT
from engine.model.sampling import sample_segment
from engine.model.signature import ModelSpec
from engine.model.wander.autoencoder import Autoencoder, to_bytes
from engine.model.wander.hints import hints, planned, present, way
from engine.model.wander.places import Places, keep
from engine.script import Entry
from engine.training.data.backwards import BLOCK, turned
from engine.types import Action, ByteArray
from engine.world.attributes import ACTIONS

Read = Callable[[list[str]], Tensor]  # captions → probabilities (N, sum of classes)


@dataclass(frozen=True)
class Settings:
    """How a model that was not exported is sampled; what is exported plays as its manifest says."""

    steps: int = 4
    first_steps: int = 8
    context_noise: float = 0.1


def model_of(
    name: str,
    dit: MemoryPackDiT,
    autoencoder: Autoencoder,
    read: Read,
    spec: ModelSpec,
    settings: Settings | None = None,
    *,
    backwards: bool = False,
) -> Model:
    """A model that figures can be measured on. `spec` is any of the built-in world's, for what is seen;
    `backwards`: it was trained on turned time (engine.training.data.backwards)."""
    settings, c = settings or Settings(), dit.config
    own = replace(
        spec,
        name=name,
        segment=c.segment,
        history=c.packing.history,
        model_dim=c.dim,
        image_tokens=c.memory.tokens - c.memory.text_tokens,
        steps=settings.steps,
        first_steps=settings.first_steps,
        context_noise=settings.context_noise,
    )
    make = in_blocks if backwards else forwards

    def play(
        prompt: str, *, seed: int, script: Sequence[Entry], steps: int | None
    ) -> Generator[ByteArray, None, None]:
        used = settings if steps is None else replace(settings, steps=steps, first_steps=steps)
        with torch.no_grad():
            said = read([prompt]).clone()
        yield from pictures(autoencoder, make(dit, said, seed, actions(script, own), used))

    return Model(name, own, play, autoencoder)


def actions(script: Sequence[Entry], spec: ModelSpec) -> Iterator[int]:
    """The action of every segment, for ever. An entry counts from the boundary nearest to its time, as in a
    session. Raises InvalidInput for anything but actions."""
    now, waiting, made = ACTIONS.index("idle"), sorted(script, key=lambda e: e.at_s), 0
    while True:
        while waiting and waiting[0].at_s < (made + 0.5) * spec.segment_s:
            body = waiting.pop(0).body
            if not isinstance(body, Action):
                raise InvalidInput("a model in training plays actions only, no change of prompt", field="at")
            now = ACTIONS.index(body.action or "idle")
        yield now
        made += 1


def pictures(autoencoder: Autoencoder, latents: Iterator[Tensor]) -> Generator[ByteArray, None, None]:
    """Segments of latents (W, C, h, w) in order of time → segments of pictures (F, H, W, 3)."""
    state: Tensor | None = None
    for segment in latents:
        with torch.no_grad():
            before = torch.zeros_like(segment[:1]) if state is None else state
            frames, state = autoencoder.decode(segment[None], before)
            yield to_bytes(frames[0]).permute(0, 2, 3, 1).contiguous().numpy()


def forwards(
    dit: MemoryPackDiT, said: Tensor, seed: int, keys: Iterator[int], settings: Settings
) -> Iterator[Tensor]:
    """One session: history, anchor and ψ move on with every segment. said (1, N)."""
    c, noise = dit.config, Noise(seed, dit)
    world = World(c, seed) if c.camera else None
    shape = (1, c.segment, c.channels, c.latent_height, c.latent_width)
    history = torch.zeros(1, sum(c.packing.history), *shape[2:])
    anchor, context = torch.zeros(1, 1, *shape[2:]), torch.zeros(1)
    with torch.no_grad():
        text, pooled = dit.text_slots(said)
        image = dit.image_tokens(anchor, context)
        psi = dit.initial_memory(text, image)
    for index, key in enumerate(keys):
        with torch.no_grad():
            given = {
                "psi": psi,
                "text": text,
                "pooled": pooled,
                "image": image,
                "anchor": anchor,
                "context": context,
                **noise.on(history, settings.context_noise),
                "actions": torch.full((1, c.segment), key),
                "index": torch.full((1,), float(index)),
            }
            if world is not None:
                given["hints"] = world.hints(given["history"], context, given["actions"])
            steps = settings.steps if index else settings.first_steps
            made = sample_segment(dit, noise.of(shape), steps, given)
            if world is not None:
                world.keep(made)
            if not index:
                anchor, context = made[:, :1], torch.ones(1)
                image = dit.image_tokens(anchor, context)
                psi = dit.initial_memory(text, image)
            psi = dit.squeeze(psi, dit.memorize(made))
            history = torch.cat([history, made], 1)[:, made.shape[1] :]
        yield made[0]


def in_blocks(
    dit: MemoryPackDiT, said: Tensor, seed: int, keys: Iterator[int], settings: Settings
) -> Iterator[Tensor]:
    """FramePack-F0, which must know where a video ends: two seconds are made at a time, last segment first,
    each with what follows it for history, from the latest picture that has been shown. So whoever steers
    waits for a block's end; here the keys are known beforehand."""
    c, noise = dit.config, Noise(seed, dit)
    shape = (1, c.segment, c.channels, c.latent_height, c.latent_width)
    kept, number = sum(c.packing.history), 0
    nothing, anchor = torch.zeros(1, kept, *shape[2:]), torch.zeros(1, 1, *shape[2:])
    while True:
        block = [next(keys) for _ in range(BLOCK if number else 1)]
        asked = turned(torch.tensor([key for key in block for _ in range(c.segment)])[None])
        after, made = nothing, list[Tensor]()
        world = World(c, seed, plans=False) if c.camera else None  # of turned time, and of this block
        for k in range(len(block)):
            with torch.no_grad():
                between = torch.full((1,), float(len(block) - k) if number else 0.0)
                context = (between > 0).float()
                text, pooled = dit.text_slots(said)
                image = dit.image_tokens(anchor, context)
                given = {
                    "psi": dit.initial_memory(text, image),
                    "text": text,
                    "pooled": pooled,
                    "image": image,
                    "anchor": anchor,
                    "context": context,
                    **noise.on(after, settings.context_noise),
                    "actions": asked[:, k * c.segment : (k + 1) * c.segment],
                    "index": between,
                }
                if world is not None:
                    given["hints"] = world.hints(given["history"], context, given["actions"])
                steps = settings.steps if number else settings.first_steps
                segment = sample_segment(dit, noise.of(shape), steps, given)
                if world is not None:
                    world.keep(segment)
            after = torch.cat([after, segment], 1)[:, c.segment :]
            made.insert(0, segment[0].flip(0))
        yield from made
        anchor = made[-1][-1:][None]
        number += len(block)


class World:
    """Where the camera of one session is, what structure W keeps, and what is planned."""

    def __init__(self, c: ModelConfig, seed: int, *, plans: bool = True) -> None:
        """`plans`: landmarks are chosen before they come into view."""
        assert c.camera is not None
        self.c, self.camera, self.seed, self.plans = c, c.camera, seed, plans
        self.places = Places.empty(1, c.channels, c.latent_height, c.camera)
        self.odometer, self.acted = torch.zeros(1, dtype=torch.int64), torch.zeros(1, c.segment).long()
        self.plan = np.zeros((c.camera.landmarks, 4), np.float32)
        self.look = torch.zeros(1)

    def hints(self, history: Tensor, context: Tensor, actions: Tensor) -> Tensor:
        """For the next segment, under these actions (1, W)."""
        if self.plans:
            line = CameraLine(self.camera, self.c.latent_width)
            numbers = in_view(int(self.odometer), self.c.segment, line)
            self.plan = planned_ahead(self.plan, numbers, self.seed, 0, line)
        self.where, self.acted = way(self.odometer, self.acted, actions, self.c), actions
        plan = torch.from_numpy(self.plan)[None]
        return hints(history, context, self.where, self.places, self.look, plan, self.camera)

    def keep(self, segment: Tensor) -> None:
        """What it shows, where nothing is kept yet."""
        where, plan = self.where, torch.from_numpy(self.plan)[None]
        standing = present(planned(plan, where.odometer, segment.shape[-1], self.camera))
        stamp = self.look[:, None].expand_as(where.odometer)
        kept = self.places, segment, where.odometer, where.step, self.look, stamp, standing
        self.places, self.odometer = keep(*kept, self.camera), where.odometer[:, -1]


class CameraLine:
    """What a camera's config says of landmarks, as engine.landmarks wants it."""

    def __init__(self, camera: CameraConfig, latent_width: int) -> None:
        self.width, self.latent_width = camera.cell_px * latent_width, latent_width
        self.landmark_kinds, self.landmark_colours = camera.landmark_kinds, camera.landmark_colours
        self.landmark_spacing_px = camera.landmark_spacing_px
        self.landmark_jitter_px = camera.landmark_jitter_px


class Noise:
    """What chance a seed has: the same for all models of one latent size, whatever their history."""

    def __init__(self, seed: int, dit: MemoryPackDiT) -> None:
        self.fresh = torch.Generator().manual_seed(2 * seed)
        self.context = torch.Generator().manual_seed(2 * seed + 1)

    def of(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.fresh)

    def on(self, history: Tensor, level: float) -> dict[str, Tensor]:
        """History with noise of the level that the model is told; frames before the scene stay zero."""
        inside = (history != 0).flatten(2).any(-1)[..., None, None, None]
        noisy = (1 - level) * history + level * torch.randn(history.shape, generator=self.context)
        return {"history": torch.where(inside, noisy, history), "sigma": torch.full((1,), level)}
