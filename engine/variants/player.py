"""Plays a trained DiT without exporting it, for models that are measured and not served.

The DiT becomes a PyTorch backend with the built-in model's text encoder and plays like any session
(engine.variants.played). FramePack-F0 cannot play as a session, since it must know where a video ends. It
plays `in_blocks`.

Legend: W latent frames of a segment, C channels, h w latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.backends.artifact import TOKENIZER, open_artifact
from engine.backends.pytorch import TorchBackend, load_model
from engine.backends.tokenizer import PromptTokenizer
from engine.errors import InvalidInput
from engine.evaluation.bench import Model
from engine.model.conditions import Conditions
from engine.model.config import ModelConfig
from engine.model.pixels import to_bytes
from engine.model.signature import ModelSpec
from engine.model.wander.autoencoder import Autoencoder
from engine.model.wander.hints import hints, planned, present, scenery, way
from engine.model.wander.places import Places, keep
from engine.model.wander.transformer import WanderDiT
from engine.model.wander.world_model import EncodeText, WorldModel, WorldModelConfig
from engine.script import Entry
from engine.training.data.backwards import BLOCK, turned
from engine.training.dit.sampling import sample_segment
from engine.types import Action, ByteArray
from engine.variants.played import played
from engine.world.attributes import ACTIONS


@dataclass(frozen=True)
class Settings:
    """How to sample a model that was not exported. An exported model's manifest has these values."""

    steps: int = 4
    first_steps: int = 8
    context_noise: float = 0.1


def model_of(
    name: str,
    dit: WanderDiT,
    autoencoder: Autoencoder,
    settings: Settings | None = None,
    *,
    backwards: bool = False,
) -> Model:
    """A model that figures can be measured on. `backwards`: it was trained on reversed time
    (engine.training.data.backwards)."""
    settings = settings or Settings()
    backend = backend_of(name, dit, autoencoder, settings)
    if not backwards:
        return played(name, backend, autoencoder)
    text = backend.modules["encode_text"]
    assert isinstance(text, EncodeText)

    def play(
        prompt: str, *, seed: int, script: Sequence[Entry], steps: int | None
    ) -> Generator[ByteArray, None, None]:
        used = settings if steps is None else replace(settings, steps=steps, first_steps=steps)
        ids, mask = (torch.from_numpy(x)[None] for x in backend.tokenize(prompt))
        with torch.no_grad():
            probabilities = text.read(ids, mask)
        keys = actions(script, backend.spec)
        yield from pictures(autoencoder, in_blocks(dit, probabilities, seed, keys, used))

    return Model(name, backend.spec, play, autoencoder)


def backend_of(name: str, dit: WanderDiT, autoencoder: Autoencoder, settings: Settings) -> TorchBackend:
    """The DiT and the autoencoder with the built-in model's text encoder, on the CPU in fp32.

    Raises ModelFilesError if the built-in model cannot be read."""
    artifact = open_artifact(None)
    built_in = load_model(artifact)
    model = WorldModel(WorldModelConfig(dit.config, autoencoder.config, built_in.config.text))
    model.dit, model.autoencoder = dit, autoencoder
    model.text, model.words = built_in.text, built_in.words
    spec = model.spec(
        name=name,
        fps=artifact.spec.fps,
        steps=settings.steps,
        first_steps=settings.first_steps,
        context_noise=settings.context_noise,
    )
    tokenize = PromptTokenizer(artifact.file(TOKENIZER), spec.text_length)
    return TorchBackend("variant", spec, model.eval().roles(spec), tokenize, torch.device("cpu"))


def actions(script: Sequence[Entry], spec: ModelSpec) -> Iterator[int]:
    """Endless actions, one per segment. An entry takes effect at the boundary nearest to its time, as
    in a session. Raises InvalidInput for anything but actions."""
    now, pending, made = ACTIONS.index("idle"), sorted(script, key=lambda e: e.at_s), 0
    while True:
        while pending and pending[0].at_s < (made + 0.5) * spec.segment_s:
            body = pending.pop(0).body
            if not isinstance(body, Action):
                raise InvalidInput("FramePack-F0 plays actions only, no change of prompt", field="at")
            now = ACTIONS.index(body.action or "idle")
        yield now
        made += 1


def pictures(autoencoder: Autoencoder, latents: Iterator[Tensor]) -> Generator[ByteArray, None, None]:
    """Segments of latents (W, C, h, w) → segments of pictures (F, H, W, 3)."""
    state: Tensor | None = None
    for segment in latents:
        with torch.no_grad():
            before = torch.zeros_like(segment[:1]) if state is None else state
            frames, state = autoencoder.decode(segment[None], before)
            yield to_bytes(frames[0]).permute(0, 2, 3, 1).contiguous().numpy()


def in_blocks(
    dit: WanderDiT,
    probabilities: Tensor,
    seed: int,
    keys: Iterator[int],
    settings: Settings,
    *,
    sample: Callable[[WanderDiT, Tensor, int, Conditions], Tensor] = sample_segment,
) -> Iterator[Tensor]:
    """The latents of FramePack-F0, segment by segment. It makes blocks of two seconds that start from the
    last picture shown, and each block from its last segment to its first, with the later segments as history.
    A user would have to wait for a whole block; here the keys are known in advance. `probabilities` (1, K)
    are those of the prompt's attributes."""
    c, noise = dit.config, Noise(seed, dit)
    shape = (1, c.segment, c.channels, c.latent_height, c.latent_width)
    kept, number = sum(c.packing.history), 0
    nothing, anchor = torch.zeros(1, kept, *shape[2:]), torch.zeros(1, 1, *shape[2:])
    while True:
        block = [next(keys) for _ in range(BLOCK if number else 1)]
        asked = turned(torch.tensor([key for key in block for _ in range(c.segment)])[None])
        after, made = nothing, list[Tensor]()
        places = BlockPlaces(c) if c.camera else None  # in reversed time
        for k in range(len(block)):
            with torch.no_grad():
                between = torch.full((1,), float(len(block) - k) if number else 0.0)
                context = (between > 0).float()
                text, pooled = dit.text_slots(probabilities)
                image = dit.image_tokens(anchor, context)
                keys_now = asked[:, k * c.segment : (k + 1) * c.segment]
                history = noise.on(after, settings.context_noise)
                given = Conditions(
                    psi=dit.initial_memory(text, image),
                    text=text,
                    pooled=pooled,
                    image=image,
                    history=history,
                    anchor=anchor,
                    context=context,
                    sigma=torch.full((1,), settings.context_noise),
                    index=between,
                    actions=keys_now,
                )
                if places is not None:
                    given = places.with_hints(given, keys_now)
                steps = settings.steps if number else settings.first_steps
                segment = sample(dit, noise.of(shape), steps, given)
                if places is not None:
                    places.keep(segment)
            after = torch.cat([after, segment], 1)[:, c.segment :]
            made.insert(0, segment[0].flip(0))
        yield from made
        anchor = made[-1][-1:][None]
        number += len(block)


class BlockPlaces:
    """The camera's position in a block that is made backwards, and structure W's memory of it, without
    planned landmarks."""

    def __init__(self, c: ModelConfig) -> None:
        assert c.camera is not None
        self.c, self.camera = c, c.camera
        self.places = Places.empty(1, c.channels, c.latent_height, c.camera)
        self.odometer, self.acted = torch.zeros(1, dtype=torch.int64), torch.zeros(1, c.segment).long()
        self.plan, self.look = torch.zeros(1, c.camera.landmarks, 4), torch.zeros(1)

    def with_hints(self, given: Conditions, actions: Tensor) -> Conditions:
        """Add the hints and scenery of the next segment, under these actions (1, W)."""
        self.where, self.acted = way(self.odometer, self.acted, actions, self.c), actions
        segment_hints = hints(
            given.history,
            given.context,
            where=self.where,
            places=self.places,
            look=self.look,
            landmarks=self.plan,
            camera=self.camera,
        )
        columns = scenery(self.where.odometer, self.c.latent_width, self.camera)
        return replace(given, hints=segment_hints, scenery=columns)

    def keep(self, segment: Tensor) -> None:
        """Store the segment's views of places that have none yet."""
        where = self.where
        standing = present(planned(self.plan, where.odometer, segment.shape[-1], self.camera))
        stamp = self.look[:, None].expand_as(where.odometer)
        self.places = keep(
            self.places,
            segment,
            odometer=where.odometer,
            step=where.step,
            look=self.look,
            stamp=stamp,
            landmark=standing,
            camera=self.camera,
        )
        self.odometer = where.odometer[:, -1]


class Noise:
    """The noise of a seed. It is the same for all models with the same latent size, whatever their
    history."""

    def __init__(self, seed: int, dit: WanderDiT) -> None:
        self.fresh = torch.Generator().manual_seed(2 * seed)
        self.context = torch.Generator().manual_seed(2 * seed + 1)

    def of(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.fresh)

    def on(self, history: Tensor, level: float) -> Tensor:
        """History with noise of this level. Frames before the scene stay zero."""
        inside = (history != 0).flatten(2).any(-1)[..., None, None, None]
        noisy = (1 - level) * history + level * torch.randn(history.shape, generator=self.context)
        return torch.where(inside, noisy, history)
