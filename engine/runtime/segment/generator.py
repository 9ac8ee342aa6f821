"""Generates segments for a batch of drafts: calls the functions of the step contract in the right order.

A draft starts as noise, and its sampler takes it to clean latents. Each draft has its own sampler, so a batch
may mix sessions that started at different times. This module knows no clients, prompts or schedule.

Legend: B batch, W latent frames of a segment, C channels, h w latent size, T history frames, F pixel frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend
from engine.landmarks.plan import behind_picture, in_view, planned, updated_names
from engine.model.signature import signature
from engine.runtime.segment.anti_drift import held
from engine.runtime.segment.conditioner import Conditioner, masks
from engine.runtime.segment.draft import Draft, Kept, Sampled, StateUpdate
from engine.runtime.segment.noise import CONTEXT, gaussian, sampler_noise
from engine.runtime.state.state import SessionState, fixed
from engine.types import ByteArray, FloatArray

CHANGED = 2  # segments with `change_noise` after a new prompt
KEEPS = ("actions", "odometer", "views", "marks", "look", "landmarks")  # of the inputs of `denoise`


class Job(NamedTuple):
    """One segment to generate: its state and its action (an index into the spec's actions)."""

    state: SessionState
    action: int


@dataclass(frozen=True)
class Segment:
    """`frames` is None where the latents were not finite; the state is then left as it was."""

    latents: FloatArray  # (W, C, h, w)
    frames: ByteArray | None  # (F, H, W, 3) RGB


class Generator:
    """For one thread at a time, like its backend. `context_noise` is the noise level of the history, at all
    times; None: the model's own, and its `change_noise`. `conditioner` prepares the states between
    segments."""

    def __init__(self, backend: Backend, context_noise: float | None = None) -> None:
        self.backend, self.spec = backend, backend.spec
        self.signature = signature(backend.spec)
        self.conditioner = Conditioner(backend)
        own = context_noise is None
        self.context_noise = self.spec.context_noise if context_noise is None else context_noise
        self.change_noise = max(self.context_noise, self.spec.change_noise if own else 0.0)
        self._stacked: tuple[list[Draft], dict[str, npt.NDArray[Any]]] = [], {}

    def steps(self, index: int) -> int:
        """Number of denoise steps of a scene's segment `index`."""
        return self.spec.first_steps if index == 0 else self.spec.steps

    def noise(self, s: SessionState) -> float:
        """Level of the history's noise in the next segment. It is higher right after a new prompt, so that
        the model trusts the prompt more than the pictures from before it."""
        changed = s.look > 0 and s.age < CHANGED and not s.fading
        return self.change_noise if changed else self.context_noise

    # ---- a draft, stage by stage; a batch may hold drafts at different steps ----

    def begin(self, job: Job) -> Draft:
        """A new draft: noise, and the inputs that stay constant. No device work, unless a projection of the
        text was dropped."""
        s = job.state
        sigma = self.noise(s)
        known: dict[str, npt.NDArray[Any]] = {
            "psi": s.psi,
            "text": s.text,
            "pooled": s.pooled,
            "image": s.image,
            "history": self._history(s, sigma),
            "anchor": s.anchor,
            "context": np.array(s.context, np.float32),
            "sigma": np.array(sigma, np.float32),
            "index": np.array(s.index, np.float32),
            "actions": np.full(self.spec.segment, job.action, np.int64),
            "text_mask": s.text_mask,
            "psi_mask": s.psi_mask,
        }
        if self.spec.place_columns:
            known |= self._world(s)
        if self.conditioner.projections.needed:
            known["projected"] = self.conditioner.projections.of(s.text)
        noise = sampler_noise(s.seed, s.scene, s.index)
        sampler = self.backend.sampler(self.steps(s.index), noise)
        row = {t.name: known[t.name] for t in self.signature[sampler.role].inputs if t.name in known}
        return Draft(s, sampler, job.action, row)

    def step(self, drafts: Sequence[Draft]) -> None:
        """One denoise step of each, whatever their t; a call for each role that they are at."""
        for role in dict.fromkeys(d.sampler.role for d in drafts):
            self._call(role, [d for d in drafts if d.sampler.role == role])

    def _call(self, role: str, drafts: Sequence[Draft]) -> None:
        given = self._conditions(drafts) | {"x": _stack([d.x for d in drafts])}
        told = [d.sampler.told() for d in drafts]
        given |= {name: np.stack([t[name] for t in told]) for name in told[0]}
        for draft, answer in zip(drafts, self.backend.run(role, given)["velocity"], strict=True):
            draft.sampler.advance(answer)
            self._hold(draft)

    def _hold(self, draft: Draft) -> None:
        """Against drift, once a segment is clean, for models that ask for it."""
        strength, s = self.spec.anti_drift, draft.state
        if strength and not draft.steps_left and s.context and not s.look and draft.finite:
            draft.sampler = Sampled(held(draft.x, s.anchor, strength))

    def decode(self, drafts: Sequence[Draft]) -> None:
        """Pictures of clean latents."""
        given = {"latents": _stack([d.x for d in drafts])}
        if self.spec.has_decoder_state:
            given["state"] = _stack([d.state.decoder for d in drafts])
        decoded = self.backend.run("decode", given)
        after = decoded.get("state_next", [d.state.decoder for d in drafts])
        for draft, frames, state in zip(drafts, decoded["frames"], after, strict=True):
            draft.frames, draft.decoder = interleaved(frames), fixed(state)

    def remember(self, drafts: Sequence[Draft]) -> None:
        """Memory of clean latents, and ψ after it, for `commit`."""
        anchored = self._anchored([d for d in drafts if not d.state.context])
        if not self.spec.memory:
            for draft in drafts:
                self._forgo(draft, anchored.get(id(draft)))
            return
        memory = self.backend.run("memorize", {"segment": _stack([d.x for d in drafts])})["memory"]
        psi = [anchored[id(d)].psi if id(d) in anchored else d.state.psi for d in drafts]
        given = {
            "psi": _stack(psi),
            "memory": memory,
            **masks(self.spec.masked, [d.state for d in drafts], "psi_mask"),
        }
        squeezed = self.backend.run("squeeze", given)["psi_next"]
        kept = self._kept(drafts) if self.spec.place_columns else [None] * len(drafts)
        for draft, m, after, places in zip(drafts, memory, squeezed, kept, strict=True):
            new = anchored.get(id(draft))
            anchor, image = (fixed(new.anchor), fixed(new.image)) if new else (None, None)
            draft.outcome = StateUpdate(fixed(m), fixed(after), anchor, image, places)

    def _forgo(self, draft: Draft, new: _Anchored | None) -> None:
        """The result for a model without ψ, whose memory and ψ are empty."""
        anchor, image = (fixed(new.anchor), fixed(new.image)) if new else (None, None)
        draft.outcome = StateUpdate(draft.state.psi, draft.state.psi, anchor, image)

    # ---- a whole batch from noise to the next state ----

    def denoise(self, jobs: Sequence[Job]) -> FloatArray:
        """(B, W, C, h, w) clean latents."""
        drafts = [self.begin(job) for job in jobs]
        while todo := [d for d in drafts if d.steps_left]:
            self.step(todo)
        return np.stack([d.x for d in drafts])

    def finish(self, jobs: Sequence[Job], latents: FloatArray) -> list[Segment]:
        """Pictures, and the states moved on by one segment."""
        begun = [self.begin(job) for job in jobs]
        drafts = [Draft(d.state, Sampled(x), d.action, d.row) for d, x in zip(begun, latents, strict=True)]
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

    def _history(self, s: SessionState, sigma: float) -> FloatArray:
        """(T, C, h, w) with noise of level `sigma`; frames before the scene stay zero."""
        if not sigma:
            return s.history
        noise = gaussian(s.seed, s.scene, s.index, s.history.shape, CONTEXT)
        noise -= s.history
        noise *= np.float32(sigma)
        noise += s.history
        noise[~s.history.any((1, 2, 3))] = 0
        return noise

    def _world(self, s: SessionState) -> dict[str, npt.NDArray[Any]]:
        """The camera's position, the kept views of the world, and the plan as far as the camera can get."""
        numbers = in_view(s.odometer, self.spec.segment, self.spec)
        plan = planned(s.landmarks, numbers, s.seed, s.scene, self.spec)
        if s.from_image:
            plan = behind_picture(plan, self.spec)
        return {
            "odometer": np.array(s.odometer, np.int64),
            "acted": np.full(self.spec.segment, s.acted, np.int64),
            "views": s.views,
            "marks": s.marks,
            "look": np.array(s.look, np.float32),
            "landmarks": plan,
        }

    def _kept(self, drafts: Sequence[Draft]) -> list[Kept]:
        """What structure W keeps of clean latents."""
        given = {name: _stack([d.row[name] for d in drafts]) for name in KEEPS}
        given["segment"] = _stack([d.x for d in drafts])
        given["settled"] = np.array([d.state.settled for d in drafts], np.float32)
        after = self.backend.run("keep", given)
        rows = zip(drafts, after["odometer_next"], after["views_next"], after["marks_next"], strict=True)
        return [Kept(int(o), fixed(v), fixed(m), self._named(d, int(o))) for d, o, v, m in rows]

    def _named(self, draft: Draft, odometer: int) -> FloatArray:
        s = draft.state
        return fixed(updated_names(s.landmarks, draft.row["landmarks"], s.named, odometer, self.spec))

    def _anchored(self, drafts: Sequence[Draft]) -> dict[int, _Anchored]:
        """For scenes whose first latent was just generated: it becomes the anchor, and ψ₀ is computed again
        from it."""
        if not drafts:
            return {}
        states, anchors = [d.state for d in drafts], np.stack([d.x[:1] for d in drafts])
        if not self.spec.memory:
            return {
                id(d): _Anchored(a, s.image, s.psi) for d, s, a in zip(drafts, states, anchors, strict=True)
            }
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
    """(F, 3, H, W) → (F, H, W, 3). Copying channel by channel is five times as fast as a transposed copy."""
    f, c, h, w = frames.shape
    picture = np.empty((f, h, w, c), np.uint8)
    for i in range(c):
        picture[..., i] = frames[:, i]
    return picture


class _Anchored(NamedTuple):
    anchor: FloatArray
    image: FloatArray
    psi: FloatArray
