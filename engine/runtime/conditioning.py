"""What a state is conditioned on, made between segments: a scene's start, a new prompt, ψ under it.

A state changes only once everything it takes is there, so whatever fails can be tried again. It knows no
schedule, no clients, and of prompts no more than their text.

Legend: H W pixels; else as in engine.runtime.state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend
from engine.runtime.state import SessionState
from engine.types import ByteArray, FloatArray


class Conditioner:
    """For one thread at a time, as its backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.spec = backend.spec

    def start_scene(
        self,
        state: SessionState,
        text: str,
        *,
        seed: int,
        scene: int,
        image: ByteArray | None = None,
        keep_anchor: bool = False,
    ) -> None:
        """A new scene from `text`, and from a picture (3, H, W) or the anchor there is, if wanted."""
        state.clear_scene()
        state.seed, state.scene = seed, scene
        self._encode_text(state, text)
        if image is not None:
            seen = self._one("encode_image", pixels=image)
            state.anchor[:], state.image[:] = seen["anchor"], seen["image"]
            state.start[:] = seen["state"]
        elif not keep_anchor:
            state.anchor[:], state.start[:] = 0, 0
            absent = self._one("embed_image", anchor=state.anchor, context=_scalar(0))
            state.image[:] = absent["image"]
        state.from_image = state.context = int(image is not None or keep_anchor)
        if state.context:
            state.history[-1] = state.anchor[0]
        state.decoder[:] = state.start
        self._start_memory(state)

    def recondition(self, state: SessionState, text: str) -> None:
        """The scene stays; ψ is squeezed again under the new text from the memory that is kept."""
        self._encode_text(state, text)
        self._start_memory(state)
        for memory in state.ring[len(state.ring) - state.remembered :]:
            self._squeeze([state], memory[None])

    # ---- helpers ----

    def _masks(self, states: Sequence[SessionState], *names: str) -> dict[str, npt.NDArray[Any]]:
        """What counts of padded prompts; nothing for models without padding."""
        if not self.spec.masked:
            return {}
        names = names or ("text_mask", "psi_mask")
        return {name: np.stack([getattr(s, name) for s in states]) for name in names}

    def _start_memory(self, state: SessionState) -> None:
        """ψ₀ of the scene's prompt and anchor."""
        start = self._one("initial_memory", **features(state, state.image, self.spec.masked))
        state.psi[:] = start["psi"]
        if self.spec.masked:
            state.psi_mask[:] = start["psi_mask"]

    def _squeeze(self, states: list[SessionState], memory: FloatArray) -> None:
        given = {"psi": np.stack([s.psi for s in states]), "memory": memory}
        psi = self.backend.run("squeeze", given | self._masks(states, "psi_mask"))["psi_next"]
        for state, new in zip(states, psi, strict=True):
            state.psi[:], state.psi_mask[:] = new, 1

    def _encode_text(self, state: SessionState, text: str) -> None:
        ids, mask = self.backend.tokenize(text)
        features = self._one("encode_text", ids=ids, mask=mask)
        state.text[:], state.pooled[:] = features["text"], features["pooled"]
        state.motion[:] = features["motion"]
        if self.spec.masked:
            state.text_mask[:] = features["text_mask"]

    def _one(self, role: str, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Run a role for a batch of one."""
        outputs = self.backend.run(role, {name: array[None] for name, array in inputs.items()})
        return {name: array[0] for name, array in outputs.items()}


def features(state: SessionState, image: FloatArray, masked: bool) -> dict[str, npt.NDArray[Any]]:
    """The inputs of `initial_memory`."""
    given = {"text": state.text, "image": image}
    return given | ({"text_mask": state.text_mask} if masked else {})


def _scalar(value: float) -> FloatArray:
    return np.array(value, np.float32)
