"""What a session remembers: arrays of fixed size and a few numbers, as many bytes in hour three as at the
start.

Arrays are replaced and never written to. So copying is cheap, and copies share what stays the same.
engine.runtime.state.snapshot saves and loads a state. How its contents are made, time and clients are
unknown.

Legend: C latent channels, h w latent size, N text tokens, I image tokens, M = N + I, D width, K ring length,
A actions, T history frames, S numbers of a prompt's conditioning, P places, Q landmarks,
V attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from engine.model.signature import ModelSpec
from engine.runtime.state import blend
from engine.types import FloatArray

Rows = tuple[FloatArray, ...]
ROWS = ("history", "ring")
NUMBERS = (
    "seed", "scene", "index", "remembered", "context", "from_image", "fade_step", "fade_steps",
    "odometer", "acted", "look", "age",
)  # fmt: skip
SETTLED = 3  # segments after which a new prompt shows whole


@dataclass
class SessionState:
    latents: Rows  # T of (C, h, w): the latest clean ones, oldest first
    memories: Rows  # K of (M, D): the latest outputs of memorize, oldest first, at the end
    anchor: FloatArray  # (1, C, h, w)
    image: FloatArray  # (I, D) tokens of the anchor
    text: FloatArray  # (N, D)
    pooled: FloatArray  # (D,)
    motion: FloatArray  # (A + 1,) the motion that the prompt asks for: none, then the actions
    psi: FloatArray  # (M, D)
    decoder: FloatArray
    start: FloatArray  # the decoder's state after the scene's start picture, zeros without one
    text_mask: FloatArray  # (N,) which tokens of a padded prompt count; empty for models without padding
    psi_mask: FloatArray  # (M,) the same of ψ
    fade: FloatArray  # (2, S) both ends of a running soft change, else zeros
    views: FloatArray  # (P, C, h) what was seen of the world's columns; empty without a camera
    marks: FloatArray  # (P, 4) of which column, and how; see engine.model.signature
    landmarks: FloatArray  # (Q, 4) the plan, see engine.landmarks.plan
    named: FloatArray  # (Q,) which of them prompts have named, see engine.landmarks.plan
    attributes: FloatArray  # (V, 2) of each attribute its value, from 1, 0: unknown; 1 where the seed chose
    seed: int = 0
    scene: int = 0  # number of cuts since the seed was set
    index: int = 0  # segments of this scene so far
    remembered: int = 0  # entries of the ring in use
    context: int = 0  # 1 once anchor and history hold a scene
    from_image: int = 0  # 1 if the anchor is a picture that was given
    fade_step: int = 0  # segments of the soft change made so far
    fade_steps: int = 0  # in total; 0: none is running
    odometer: int = 0  # steps of the camera to the right since the scene began
    acted: int = 0  # the action of the latest segment
    look: int = 0  # prompts of this scene after its first
    age: int = 0  # segments since the latest of them took hold

    @classmethod
    def zeros(cls, spec: ModelSpec) -> SessionState:
        return cls.of({n: np.zeros(shape, np.float32) for n, shape in shapes(spec).items()}, {})

    @classmethod
    def of(cls, arrays: Mapping[str, FloatArray], numbers: Mapping[str, int]) -> SessionState:
        """From arrays by the names of `shapes`, which are copied, and from NUMBERS."""
        one: dict[str, Any] = {n: fixed(array) for n, array in arrays.items() if n not in ROWS}
        return cls(_rows(arrays["history"]), _rows(arrays["ring"]), **{**one, **numbers})

    @property
    def history(self) -> FloatArray:
        """(T, C, h, w)."""
        return np.stack(self.latents)

    @property
    def ring(self) -> FloatArray:
        """(K, M, D)."""
        return np.stack(self.memories)

    @property
    def fading(self) -> bool:
        return self.fade_steps > 0

    @property
    def settled(self) -> bool:
        """Does the picture show the prompt, and nothing of the one before?"""
        return self.look == 0 or self.age >= SETTLED

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.parts()) + 8 * len(NUMBERS)

    def changed_bytes(self, segments: int, latents: int) -> int:
        """Upper bound of what `segments` segments of `latents` latents each replace; the first segment of a
        scene has one latent more."""
        old = max(0, len(self.latents) - segments * (latents + 1)) * self.latents[0].nbytes
        return self.nbytes - old - max(0, len(self.memories) - segments) * self.memories[0].nbytes

    def copy(self) -> SessionState:
        """Shares all arrays."""
        return replace(self)

    def become(self, other: SessionState) -> None:
        """Take over every field of `other`. Cannot fail half-way."""
        self.__dict__.update(other.__dict__)

    def clear_scene(self) -> None:
        """Forget the scene except its prompt and its anchor."""
        self.latents = (_zeros(self.latents[0]),) * len(self.latents)
        self.memories = (_zeros(self.memories[0]),) * len(self.memories)
        self.psi, self.decoder = _zeros(self.psi), _zeros(self.decoder)
        self.views, self.marks = _zeros(self.views), _zeros(self.marks)
        self.landmarks, self.named = _zeros(self.landmarks), _zeros(self.named)
        self.index = self.remembered = self.odometer = self.acted = self.look = self.age = 0

    def append(self, latents: FloatArray, memory: FloatArray) -> None:
        """Add a segment's latents (W, C, h, w) and memory (M, D); the oldest are forgotten."""
        self.latents = (*self.latents, *_rows(latents))[-len(self.latents) :]
        self.memories = (*self.memories, fixed(memory))[-len(self.memories) :]
        self.remembered = min(self.remembered + 1, len(self.memories))
        self.index += 1
        self.age += 1

    def arrays(self) -> dict[str, FloatArray]:
        """By the names of `shapes`."""
        kept = (*NUMBERS, "latents", "memories")
        one = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in kept}
        return {"history": self.history, "ring": self.ring, **one}

    def parts(self) -> list[FloatArray]:
        """All arrays. What two states share is the same object in both."""
        one = [getattr(self, f.name) for f in fields(self) if f.name not in (*NUMBERS, "latents", "memories")]
        return [*self.latents, *self.memories, *one]


def fixed(array: FloatArray) -> FloatArray:
    """A copy that nobody will write to. It is not flagged read-only, since PyTorch warns about such
    arrays."""
    return np.array(array, np.float32)


def _rows(array: FloatArray) -> Rows:
    return tuple(fixed(row) for row in array)


def _zeros(like: FloatArray) -> FloatArray:
    return fixed(np.zeros_like(like))


def shapes(s: ModelSpec) -> dict[str, tuple[int, ...]]:
    frame = (s.latent_channels, s.latent_height, s.latent_width)
    return {
        "history": (s.history_frames, *frame),
        "anchor": (1, *frame),
        "image": (s.image_tokens, s.model_dim),
        "text": (s.text_tokens, s.text_width),
        "pooled": (s.pooled_width,),
        "motion": (len(s.actions) + 1,),
        "psi": (s.memory_tokens, s.model_dim),
        "ring": (s.memory_ring, s.memory_tokens, s.model_dim),
        "decoder": s.decoder_state,
        "start": s.decoder_state,
        "text_mask": (s.text_tokens if s.masked else 0,),
        "psi_mask": (s.memory_tokens if s.masked else 0,),
        "fade": (2, blend.size(s)),
        "views": (s.place_columns, s.latent_channels, s.latent_height),
        "marks": (s.place_columns, 4),
        "landmarks": (s.landmarks, 4),
        "named": (s.landmarks,),
        "attributes": (len(s.attributes), 2),
    }
