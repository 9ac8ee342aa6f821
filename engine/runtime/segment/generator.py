"""Makes segments for a batch of drafts: the functions of the step contract in the right order.

x starts as noise at t = 0 and a sampler takes it to t = 1. Each draft has its own t, step and sampler, so a
batch may mix sessions that started at different times. Clients, prompts and schedule are unknown here.

Legend: B batch, W latent frames of a segment, C channels, h w latent size, T history frames, F pixel frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend
from engine.runtime.segment.conditioner import Conditioner, masks
from engine.runtime.segment.draft import Draft, Outcome
from engine.runtime.segment.noise import CONTEXT, gaussian
from engine.runtime.state.state import SessionState, fixed
from engine.types import ByteArray, FloatArray


class Job(NamedTuple):
    """One segment to make: from which state, under which action (an index into the spec's)."""

    state: SessionState
    action: int


@dataclass(frozen=True)
class Segment:
    """`frames` is None where the latents were not finite; the state is then left as it was."""

    latents: FloatArray  # (W, C, h, w)
    frames: ByteArray | None  # (F, H, W, 3) RGB


class Generator:
    """For one thread at a time, like its backend. `context_noise` is the noise level of the history; None:
    the model's own. `conditioner` prepares the states between segments."""

    def __init__(self, backend: Backend, context_noise: float | None = None) -> None:
        self.backend, self.spec = backend, backend.spec
        self.conditioner = Conditioner(backend)
        self.context_noise = self.spec.context_noise if context_noise is None else context_noise
        self._stacked: tuple[list[Draft], dict[str, npt.NDArray[Any]]] = [], {}

    def steps(self, index: int) -> int:
        """Number of denoise steps of a scene's segment `index`."""
        return self.spec.first_steps if index == 0 else self.spec.steps

    # ---- a draft, stage by stage; a batch may hold drafts at different steps ----

    def begin(self, job: Job) -> Draft:
        """A new draft: noise, and the inputs that stay constant. No device work."""
        s = job.state
        row: dict[str, npt.NDArray[Any]] = {
            "psi": s.psi,
            "text": s.text,
            "pooled": s.pooled,
            "image": s.image,
            "history": self._history(s),
            "anchor": s.anchor,
            "context": np.array(s.context, np.float32),
            "sigma": np.array(self.context_noise, np.float32),
            "index": np.array(s.index, np.float32),
        }
        if len(self.spec.actions) > 1:
            row["actions"] = np.full(self.spec.segment, job.action, np.int64)
        if self.spec.masked:
            row |= {"text_mask": s.text_mask, "psi_mask": s.psi_mask}
        noise = gaussian(s.seed, s.scene, s.index, (self.spec.segment, *s.anchor.shape[1:]))
        return Draft(s, noise, self.backend.sampler(self.steps(s.index)), row)

    def step(self, drafts: Sequence[Draft]) -> None:
        """One denoise step of each, whatever their t."""
        starts = [d.sampler.times[d.k] for d in drafts]
        ends = [d.sampler.times[d.k + 1] for d in drafts]
        given = self._conditions(drafts) | {"x": _stack([d.x for d in drafts])}
        given["t"] = np.array(starts, np.float32)
        given["d"] = np.array([b - a for a, b in zip(starts, ends, strict=True)], np.float32)
        velocity = self.backend.run("denoise", given)["velocity"]
        for draft, v in zip(drafts, velocity, strict=True):
            draft.x = draft.sampler.step(draft.k, draft.x[None], v[None])[0]
            draft.k += 1

    def decode(self, drafts: Sequence[Draft]) -> None:
        """Pictures of clean latents."""
        latents, decoder = _stack([d.x for d in drafts]), _stack([d.state.decoder for d in drafts])
        decoded = self.backend.run("decode", {"latents": latents, "state": decoder})
        for draft, frames, state in zip(drafts, decoded["frames"], decoded["state_next"], strict=True):
            draft.frames, draft.decoder = interleaved(frames), fixed(state)

    def remember(self, drafts: Sequence[Draft]) -> None:
        """Memory of clean latents, and ψ after it, for `commit`."""
        anchored = self._anchored([d for d in drafts if not d.state.context])
        memory = self.backend.run("memorize", {"segment": _stack([d.x for d in drafts])})["memory"]
        psi = [anchored[id(d)].psi if id(d) in anchored else d.state.psi for d in drafts]
        given = {
            "psi": _stack(psi),
            "memory": memory,
            **masks(self.spec.masked, [d.state for d in drafts], "psi_mask"),
        }
        squeezed = self.backend.run("squeeze", given)["psi_next"]
        for draft, m, after in zip(drafts, memory, squeezed, strict=True):
            new = anchored.get(id(draft))
            anchor, image = (fixed(new.anchor), fixed(new.image)) if new else (None, None)
            draft.outcome = Outcome(fixed(m), fixed(after), anchor, image)

    # ---- a whole batch from noise to the next state ----

    def denoise(self, jobs: Sequence[Job]) -> FloatArray:
        """(B, W, C, h, w) clean latents."""
        drafts = [self.begin(job) for job in jobs]
        while todo := [d for d in drafts if d.steps_left]:
            self.step(todo)
        return np.stack([d.x for d in drafts])

    def finish(self, jobs: Sequence[Job], latents: FloatArray) -> list[Segment]:
        """Pictures, and the states moved on by one segment."""
        drafts = [Draft(j.state, x, self.backend.sampler(1), {}) for j, x in zip(jobs, latents, strict=True)]
        if good := [d for d in drafts if d.finite]:
            self.decode(good)
            self.remember(good)
        for draft in good:
            draft.commit()
        return [Segment(d.x, d.frames) for d in drafts]

    # ---- helpers ----

    def _conditions(self, drafts: Sequence[Draft]) -> dict[str, npt.NDArray[Any]]:
        """The constant inputs, stacked. Reused while the batch consists of the same drafts."""
        known, given = self._stacked
        if len(known) != len(drafts) or any(a is not b for a, b in zip(known, drafts, strict=True)):
            given = {name: _stack([d.row[name] for d in drafts]) for name in drafts[0].row}
            self._stacked = list(drafts), given
        return given

    def _history(self, s: SessionState) -> FloatArray:
        """(T, C, h, w) with noise of the level that the model is told; frames before the scene stay zero."""
        if not self.context_noise:
            return s.history
        noise = gaussian(s.seed, s.scene, s.index, s.history.shape, CONTEXT)
        noise -= s.history
        noise *= np.float32(self.context_noise)
        noise += s.history
        noise[~s.history.any((1, 2, 3))] = 0
        return noise

    def _anchored(self, drafts: Sequence[Draft]) -> dict[int, _Anchored]:
        """For scenes whose first latent was just made: it becomes the anchor, and ψ₀ is made again from
        it."""
        if not drafts:
            return {}
        states, anchors = [d.state for d in drafts], np.stack([d.x[:1] for d in drafts])
        context = np.ones(len(drafts), np.float32)
        images = self.backend.run("embed_image", {"anchor": anchors, "context": context})["image"]
        given = {"text": np.stack([s.text for s in states]), "image": images}
        psi = self.backend.run("initial_memory", given | masks(self.spec.masked, states, "text_mask"))["psi"]
        rows = zip(anchors, images, psi, strict=True)
        return {id(d): _Anchored(*row) for d, row in zip(drafts, rows, strict=True)}


def _stack(rows: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """(B, ...). One row is not copied."""
    return np.asarray(rows[0])[None] if len(rows) == 1 else np.stack(rows)


def interleaved(frames: ByteArray) -> ByteArray:
    """(F, 3, H, W) → (F, H, W, 3). Colour by colour is five times as fast as a transposed copy."""
    f, c, h, w = frames.shape
    picture = np.empty((f, h, w, c), np.uint8)
    for i in range(c):
        picture[..., i] = frames[:, i]
    return picture


class _Anchored(NamedTuple):
    anchor: FloatArray
    image: FloatArray
    psi: FloatArray
