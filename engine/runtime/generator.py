"""Segments for a batch of sessions: the step contract's functions in the right order, on session states.

x starts as noise at t = 0 and a sampler takes it to t = 1 (engine.runtime.sampler). A state changes only in
`start_scene`, `recondition` and at the end of `finish`, so whatever fails can be tried again. It knows no
clients, no schedule, and of prompts no more than their text.

Legend: B batch, W latent frames of a segment, C channels, h w latent size, T history frames, F pixel frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend
from engine.runtime.conditioning import Conditioner, features
from engine.runtime.noise import CONTEXT, gaussian
from engine.runtime.sampler import make_sampler
from engine.runtime.state import SessionState
from engine.types import ByteArray, FloatArray

Clock = Callable[[], float]


class Job(NamedTuple):
    """One segment to make: for which state, under which action of the spec."""

    state: SessionState
    action: int


@dataclass(frozen=True)
class Segment:
    """`frames` is None where the latents were not finite; the state is then left as it was."""

    latents: FloatArray  # (W, C, h, w)
    frames: ByteArray | None  # (F, H, W, 3) RGB


class Generator(Conditioner):
    """For one thread at a time, as its backend. `context_noise` is the noise level of the history;
    None is what the model wants."""

    def __init__(
        self, backend: Backend, context_noise: float | None = None, clock: Clock = time.monotonic
    ) -> None:
        super().__init__(backend)
        self.context_noise = self.spec.context_noise if context_noise is None else context_noise
        self._clock = clock

    def steps(self, index: int) -> int:
        """Denoise steps of a scene's segment number `index`."""
        return self.spec.first_steps if index == 0 else self.spec.steps

    # ---- a segment ----

    def denoise(self, jobs: Sequence[Job], aborted: Callable[[], bool] = lambda: False) -> FloatArray | None:
        """(B, W, C, h, w) clean latents, or None once `aborted`. All jobs need the same number of steps."""
        sampler = make_sampler(self.spec, self.steps(jobs[0].state.index))
        given = self._conditions(jobs)
        x = given["x"]
        for k, (start, end) in enumerate(pairwise(sampler.times)):
            if aborted():
                return None
            t, d = (np.full(len(jobs), v, np.float32) for v in (start, end - start))
            velocity = self.backend.run("denoise", {**given, "x": x, "t": t, "d": d})["velocity"]
            x = sampler.step(k, x, velocity)
        return x

    def finish(self, jobs: Sequence[Job], latents: FloatArray) -> tuple[list[Segment], dict[str, float]]:
        """Pictures, and the states moved on by one segment. Also how long decode and memory took, in ms."""
        finite = [bool(np.isfinite(x).all()) for x in latents]
        good = [i for i, ok in enumerate(finite) if ok]
        segments = [Segment(x, None) for x in latents]
        if not good:
            return segments, {}
        start_s = self._clock()
        states = [jobs[i].state for i in good]
        clean = latents[good]
        decoder = np.stack([s.decoder for s in states])
        decoded = self.backend.run("decode", {"latents": clean, "state": decoder})
        decoded_s = self._clock()
        anchors = [s.anchor if s.context else x[:1] for s, x in zip(states, clean, strict=True)]
        first = self._first_images(states, anchors)
        memory = self.backend.run("memorize", {"segment": clean})["memory"]
        psi = self.backend.run("squeeze", self._psi_of(states, first, memory))["psi_next"]
        for b, state in enumerate(states):  # nothing fails from here on
            image = first[b]
            if image is not None:
                state.anchor[:], state.image[:], state.context = anchors[b], image, 1
            _shift_in(state.history, clean[b])
            _shift_in(state.ring, memory[b : b + 1])
            state.psi[:], state.psi_mask[:] = psi[b], 1
            state.decoder[:] = decoded["state_next"][b]
            state.remembered = min(state.remembered + 1, len(state.ring))
            state.index += 1
            frames = np.ascontiguousarray(decoded["frames"][b].transpose(0, 2, 3, 1))
            segments[good[b]] = Segment(clean[b], frames)
        memory_ms = (self._clock() - decoded_s) * 1e3
        return segments, {"decode": (decoded_s - start_s) * 1e3, "memory": memory_ms}

    # ---- helpers ----

    def _conditions(self, jobs: Sequence[Job]) -> dict[str, npt.NDArray[Any]]:
        """What stays the same over the steps of a segment; and x at t = 0."""
        states = [job.state for job in jobs]
        latents = (self.spec.segment, *states[0].anchor.shape[1:])
        given: dict[str, npt.NDArray[Any]] = {
            "x": np.stack([gaussian(s.seed, s.scene, s.index, latents) for s in states]),
            "psi": np.stack([s.psi for s in states]),
            "text": np.stack([s.text for s in states]),
            "pooled": np.stack([s.pooled for s in states]),
            "image": np.stack([s.image for s in states]),
            "history": np.stack([self._history(s) for s in states]),
            "anchor": np.stack([s.anchor for s in states]),
            "context": np.array([s.context for s in states], np.float32),
            "sigma": np.full(len(jobs), self.context_noise, np.float32),
            "index": np.array([s.index for s in states], np.float32),
        }
        if len(self.spec.actions) > 1:
            given["actions"] = np.array([[job.action] * self.spec.segment for job in jobs], np.int64)
        return given | self._masks(states)

    def _history(self, s: SessionState) -> FloatArray:
        """(T, C, h, w), with as much noise as the model is told of; frames before the scene stay zero."""
        if not self.context_noise:
            return s.history
        noise = gaussian(s.seed, s.scene, s.index, s.history.shape, CONTEXT)
        mixed = s.history + np.float32(self.context_noise) * (noise - s.history)
        return np.where(s.history.any((1, 2, 3), keepdims=True), mixed, s.history)

    def _first_images(self, states: list[SessionState], anchors: list[FloatArray]) -> list[FloatArray | None]:
        """Image tokens of the new anchors, for the scenes that just got one."""
        new = [i for i, s in enumerate(states) if not s.context]
        images: list[FloatArray | None] = [None] * len(states)
        if new:
            given = {"anchor": np.stack([anchors[i] for i in new]), "context": np.ones(len(new), np.float32)}
            for i, image in zip(new, self.backend.run("embed_image", given)["image"], strict=True):
                images[i] = image
        return images

    def _psi_of(
        self, states: list[SessionState], first: list[FloatArray | None], memory: FloatArray
    ) -> dict[str, npt.NDArray[Any]]:
        """What to squeeze: each state's ψ, or ψ₀ of the scenes that just got an anchor."""
        psi = np.stack([s.psi for s in states])
        for b, (state, image) in enumerate(zip(states, first, strict=True)):
            if image is not None:
                psi[b] = self._one("initial_memory", **features(state, image, self.spec.masked))["psi"]
        return {"psi": psi, "memory": memory, **self._masks(states, "psi_mask")}


def _shift_in(frames: FloatArray, new: FloatArray) -> None:
    """Drop the oldest, append the newest, in place."""
    n = min(len(new), len(frames))
    frames[: len(frames) - n] = frames[n:].copy()
    frames[len(frames) - n :] = new[-n:]
