"""What a session must remember: fixed-size arrays and a few numbers, as many bytes in hour three as at first.

It can be copied, saved and loaded. It does not know how its contents are made, nor time, nor clients.

Legend: C latent channels, h w latent size, N text tokens, I image tokens, M = N + I, D width, K ring length,
A actions, T history frames.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from engine.config import MAX_SEED
from engine.errors import InvalidInput
from engine.model.signature import ModelSpec
from engine.types import FloatArray

FORMAT = "psistream-session-1"
_NUMBERS = ("seed", "scene", "index", "remembered", "context", "from_image")


@dataclass
class SessionState:
    history: FloatArray  # (T, C, h, w) the latest clean latents, oldest first
    anchor: FloatArray  # (1, C, h, w)
    image: FloatArray  # (I, D) tokens of the anchor
    text: FloatArray  # (N, D)
    pooled: FloatArray  # (D,)
    motion: FloatArray  # (A + 1,) what the prompt says of motion: unsaid, then the actions
    psi: FloatArray  # (M, D)
    ring: FloatArray  # (K, M, D) the latest outputs of memorize, oldest first, at the end
    decoder: FloatArray
    start: FloatArray  # the decoder's after the picture that the scene started from, zeros without one
    text_mask: FloatArray  # (N,) which tokens of a padded prompt count; empty where none is padded
    psi_mask: FloatArray  # (M,) the same of ψ
    seed: int = 0
    scene: int = 0  # scenes cut since the seed was set
    index: int = 0  # segments of this scene so far
    remembered: int = 0  # how many of the ring are in use
    context: int = 0  # 1 once anchor and history hold a scene
    from_image: int = 0  # 1 where the anchor is a picture that was given

    @classmethod
    def zeros(cls, spec: ModelSpec) -> SessionState:
        arrays: dict[str, Any] = {n: np.zeros(shape, np.float32) for n, shape in _shapes(spec).items()}
        return cls(**arrays)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self._arrays().values()) + 8 * len(_NUMBERS)

    def copy(self) -> SessionState:
        values: dict[str, Any] = {name: array.copy() for name, array in self._arrays().items()}
        return SessionState(**values, **{name: getattr(self, name) for name in _NUMBERS})

    def clear_scene(self) -> None:
        """Forget everything of the scene except its prompt and its anchor."""
        for array in (self.history, self.psi, self.ring, self.decoder):
            array[:] = 0
        self.index = self.remembered = 0

    def save(self, spec: ModelSpec, about: Mapping[str, str] | None = None) -> bytes:
        """As safetensors; `about` (strings, such as the prompt) goes into its metadata."""
        numbers = np.array([getattr(self, name) for name in _NUMBERS], np.int64)
        metadata = {**(about or {}), "format": FORMAT, "model": spec.name}
        return safetensors.numpy.save({**self._arrays(), "numbers": numbers}, metadata)

    @classmethod
    def load(cls, spec: ModelSpec, data: bytes) -> tuple[SessionState, dict[str, str]]:
        """The state and what `about` said. Raises InvalidInput for what is not a state of this model."""
        try:
            if len(data) > cls.zeros(spec).nbytes + 2**16:
                raise ValueError(f"{len(data)} bytes are too many")
            arrays = safetensors.numpy.load(data)
            metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        except (SafetensorError, ValueError, KeyError) as error:
            raise InvalidInput(f"snapshot: not a safetensors file: {error}", field="snapshot") from None
        if metadata.get("format") != FORMAT or metadata.get("model") != spec.name:
            raise InvalidInput(
                f"snapshot: is {metadata.get('format')!r} of model {metadata.get('model')!r}, "
                f"must be {FORMAT!r} of {spec.name!r}",
                field="snapshot",
            )
        shapes = {**_shapes(spec), "numbers": (len(_NUMBERS),)}
        for name, shape in shapes.items():
            dtype = np.int64 if name == "numbers" else np.float32
            array = arrays.get(name)
            if array is None or array.shape != shape or array.dtype != dtype:
                raise InvalidInput(f"snapshot: {name!r} must be {np.dtype(dtype)}{shape}", field=name)
        numbers = dict(zip(_NUMBERS, (int(n) for n in arrays["numbers"]), strict=True))
        most = {"seed": MAX_SEED, "remembered": spec.memory_ring, "context": 1, "from_image": 1}
        for name, number in numbers.items():
            if not 0 <= number <= most.get(name, 2**40 - 1):
                raise InvalidInput(f"snapshot: {name!r} is out of range: {number}", field=name)
        values: dict[str, Any] = {name: arrays[name].copy() for name in _shapes(spec)}
        return cls(**values | numbers), metadata

    def _arrays(self) -> dict[str, FloatArray]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NUMBERS}


def _shapes(s: ModelSpec) -> dict[str, tuple[int, ...]]:
    frame = (s.latent_channels, s.latent_height, s.latent_width)
    return {
        "history": (s.history_frames, *frame),
        "anchor": (1, *frame),
        "image": (s.image_tokens, s.model_dim),
        "text": (s.text_tokens, s.text_dim or s.model_dim),
        "pooled": (s.pooled_dim or s.model_dim,),
        "motion": (len(s.actions) + 1,),
        "psi": (s.memory_tokens, s.model_dim),
        "ring": (s.memory_ring, s.memory_tokens, s.model_dim),
        "decoder": s.decoder_state,
        "start": s.decoder_state,
        "text_mask": (s.text_tokens if s.masked else 0,),
        "psi_mask": (s.memory_tokens if s.masked else 0,),
    }
