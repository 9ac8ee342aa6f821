"""What states are conditioned on, made between segments: a scene's start, new prompts, ψ under them.

Many sessions at once: each of the model's functions runs for all that need it. A state changes only once
everything it takes is there, so whatever fails can be tried again. It knows no schedule, no clients, and of
prompts no more than their text.

Legend: H W pixels; else as in engine.runtime.state.state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend
from engine.runtime.state.blend import Said, blend, flat, unflat
from engine.runtime.state.change import Change, NewScene, as_prompts
from engine.runtime.state.state import SessionState, fixed
from engine.types import ByteArray, FloatArray

Named = dict[str, npt.NDArray[Any]]


@dataclass
class _Becoming:
    """What one state becomes. `said` as of the next segment; `fade` where it is on its way to another."""

    state: SessionState
    change: Change
    said: Said
    fade: tuple[Said, Said] | None
    fade_step: int
    image: FloatArray  # (I, D)
    anchor: FloatArray  # (1, C, h, w)
    start: FloatArray
    has_anchor: bool
    psi: FloatArray | None = None
    psi_mask: FloatArray | None = None


class Conditioner:
    """For one thread at a time, as its backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.spec = backend.spec

    def prepare(self, wishes: Sequence[tuple[SessionState, Change]]) -> None:
        """Make each state as its change wants it; an empty change takes a running `soft` one step on."""
        if not wishes:
            return
        said = self._encode_texts(wishes)
        becoming = [self._text(state, change, said) for state, change in wishes]
        self._pictures([b for b in becoming if b.change.scene is not None])
        self._memories(becoming)
        for b in becoming:  # nothing fails from here on
            _commit(b)

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
        new = NewScene(seed, scene, image, keep_anchor)
        self.prepare([(state, Change(as_prompts(text), scene=new))])

    def recondition(self, state: SessionState, text: str) -> None:
        """The scene stays; ψ is squeezed again under the new text from the memory that is kept."""
        self.prepare([(state, Change(as_prompts(text)))])

    # ---- text ----

    def _encode_texts(self, wishes: Sequence[tuple[SessionState, Change]]) -> dict[str, Said]:
        """What each text says; no more of them at a time than there are states."""
        texts = list(dict.fromkeys(p.text for _, change in wishes for p in change.prompts or ()))
        said = {}
        for some in _chunks(texts, len(wishes)):
            tokens = [self.backend.tokenize(text) for text in some]
            ids, mask = (np.stack([t[i] for t in tokens]) for i in (0, 1))
            rows = self.backend.run("encode_text", {"ids": ids, "mask": mask})
            empty = np.zeros((len(some), 0), np.float32)
            masks = rows.get("text_mask", empty)
            parts = zip(rows["text"], rows["pooled"], rows["motion"], masks, strict=True)
            said.update({text: Said(*part) for text, part in zip(some, parts, strict=True)})
        return said

    def _text(self, state: SessionState, change: Change, said: dict[str, Said]) -> _Becoming:
        """The text of the next segment: `soft` shows a first bit of the new one in its first segment."""
        before = Said(state.text, state.pooled, state.motion, state.text_mask)
        fade, step, over = None, state.fade_step, state.fade_steps
        if state.fading:
            fade = unflat(state.fade[0], before), unflat(state.fade[1], before)
        if change.prompts is not None:
            goal = blend([said[p.text] for p in change.prompts], [p.weight for p in change.prompts])
            fade, step, over = (before, goal), 0, 1 if change.scene else change.over
        after = before
        if fade is not None:
            step += 1
            done = step >= over
            after = fade[1] if done else blend(fade, (over - step, step))
            fade = None if done else fade
        return _Becoming(
            state,
            change,
            after,
            fade,
            step if fade else 0,
            state.image,
            state.anchor,
            state.start,
            bool(state.context),
        )

    # ---- scenes ----

    def _pictures(self, scenes: Sequence[_Becoming]) -> None:
        """Anchor and image tokens of scenes that start; who keeps the anchor keeps both."""
        seen, blank = [], []
        for b in scenes:
            assert b.change.scene is not None
            if b.change.scene.image is not None:
                seen.append((b, b.change.scene.image))
            elif not b.change.scene.keep_anchor:
                blank.append(b)
            b.has_anchor = b.change.scene.image is not None or b.change.scene.keep_anchor
        if seen:
            rows = self.backend.run("encode_image", {"pixels": np.stack([pixels for _, pixels in seen])})
            for i, (b, _) in enumerate(seen):
                b.anchor, b.image, b.start = rows["anchor"][i], rows["image"][i], rows["state"][i]
        if blank:
            none = np.zeros((len(blank), *blank[0].anchor.shape), np.float32)
            given = {"anchor": none, "context": np.zeros(len(blank), np.float32)}
            for b, image in zip(blank, self.backend.run("embed_image", given)["image"], strict=True):
                b.anchor, b.image, b.start = np.zeros_like(b.anchor), image, np.zeros_like(b.start)

    # ---- memory ----

    def _memories(self, becoming: Sequence[_Becoming]) -> None:
        """ψ₀ of prompt and picture, and where the scene stays, what is remembered of it squeezed in again."""
        given: Named = {"text": np.stack([b.said.text for b in becoming])}
        given["image"] = np.stack([b.image for b in becoming])
        if self.spec.masked:
            given["text_mask"] = np.stack([b.said.mask for b in becoming])
        rows = self.backend.run("initial_memory", given)
        for i, b in enumerate(becoming):
            b.psi = rows["psi"][i]
            b.psi_mask = rows["psi_mask"][i] if self.spec.masked else b.state.psi_mask
        left = {id(b): list(_remembered(b)) for b in becoming}
        while todo := [b for b in becoming if left[id(b)]]:
            memory = np.stack([left[id(b)].pop(0) for b in todo])
            given = {"psi": np.stack([_array(b.psi) for b in todo]), "memory": memory}
            if self.spec.masked:
                given["psi_mask"] = np.stack([_array(b.psi_mask) for b in todo])
            for b, psi in zip(todo, self.backend.run("squeeze", given)["psi_next"], strict=True):
                b.psi, b.psi_mask = psi, np.ones_like(b.state.psi_mask)

    def _masks(self, states: Sequence[SessionState], *names: str) -> Named:
        """What counts of padded prompts; nothing for models without padding."""
        if not self.spec.masked:
            return {}
        names = names or ("text_mask", "psi_mask")
        return {name: np.stack([getattr(s, name) for s in states]) for name in names}


def _commit(b: _Becoming) -> None:
    state, scene = b.state, b.change.scene
    if scene is not None:
        state.clear_scene()
        state.seed, state.scene = scene.seed, scene.number
        state.anchor, state.image, state.start = fixed(b.anchor), fixed(b.image), fixed(b.start)
        state.from_image = state.context = int(b.has_anchor)
        if b.has_anchor:
            state.latents = (*state.latents[:-1], state.anchor[0])
        state.decoder = state.start
    if b.change.prompts is not None:
        state.fade_steps = b.change.over
    if b.fade is None and state.fading:
        state.fade = fixed(np.zeros_like(state.fade))
    elif b.fade is not None and b.fade_step == 1:  # it begins
        state.fade = fixed(np.stack([flat(said) for said in b.fade]))
    state.fade_step = b.fade_step
    state.fade_steps = state.fade_steps if b.fade is not None else 0
    state.text, state.pooled, state.motion, state.text_mask = map(fixed, b.said)
    state.psi, state.psi_mask = fixed(_array(b.psi)), fixed(_array(b.psi_mask))


def _remembered(b: _Becoming) -> Iterable[FloatArray]:
    """(M, D) each, oldest first."""
    memories = b.state.memories
    return () if b.change.scene is not None else memories[len(memories) - b.state.remembered :]


def _array(array: FloatArray | None) -> FloatArray:
    assert array is not None
    return array


def _chunks(texts: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (texts[i : i + size] for i in range(0, len(texts), size))
