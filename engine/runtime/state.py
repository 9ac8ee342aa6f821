"""What a session must remember: fixed-size arrays and a few numbers, as many bytes in hour three as at first.

It can be copied; engine.runtime.snapshot saves and loads it. It does not know how its contents are made, nor
time, nor clients.

Legend: C latent channels, h w latent size, N text tokens, I image tokens, M = N + I, D width, K ring length,
A actions, T history frames, S numbers that a prompt is told by.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from engine.model.signature import ModelSpec
from engine.runtime import blend
from engine.types import FloatArray

NUMBERS = ("seed", "scene", "index", "remembered", "context", "from_image", "fade_step", "fade_steps")


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
    fade: FloatArray  # (2, S) the prompts between which a soft change is under way, else zeros
    seed: int = 0
    scene: int = 0  # scenes cut since the seed was set
    index: int = 0  # segments of this scene so far
    remembered: int = 0  # how many of the ring are in use
    context: int = 0  # 1 once anchor and history hold a scene
    from_image: int = 0  # 1 where the anchor is a picture that was given
    fade_step: int = 0  # segments of the soft change so far
    fade_steps: int = 0  # and in all; 0: none is under way

    @classmethod
    def zeros(cls, spec: ModelSpec) -> SessionState:
        arrays: dict[str, Any] = {n: np.zeros(shape, np.float32) for n, shape in shapes(spec).items()}
        return cls(**arrays)

    @property
    def fading(self) -> bool:
        return self.fade_steps > 0

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.arrays().values()) + 8 * len(NUMBERS)

    def copy(self) -> SessionState:
        values: dict[str, Any] = {name: array.copy() for name, array in self.arrays().items()}
        return SessionState(**values, **{name: getattr(self, name) for name in NUMBERS})

    def clear_scene(self) -> None:
        """Forget everything of the scene except its prompt and its anchor."""
        for array in (self.history, self.psi, self.ring, self.decoder):
            array[:] = 0
        self.index = self.remembered = 0

    def arrays(self) -> dict[str, FloatArray]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in NUMBERS}


def shapes(s: ModelSpec) -> dict[str, tuple[int, ...]]:
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
        "fade": (2, blend.size(s)),
    }
