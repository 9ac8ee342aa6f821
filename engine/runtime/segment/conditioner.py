"""Prepares states between segments: scene starts, new prompts, and ψ under them.

Many sessions are prepared at once: each of the model's functions runs for all states that need it. All
changes are made on copies and adopted at the end, so a failed call can be retried. This module knows neither
the schedule nor clients, and prompts are only text.

Legend: H W pixels; else as in engine.runtime.state.state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backends.base import Backend
from engine.runtime.segment.noise import START, gaussian, share
from engine.runtime.segment.projection import Projections
from engine.runtime.segment.sayings import attributes, plan_named, without_landmarks
from engine.runtime.state.blend import Conditioning, blend, flat, unflat
from engine.runtime.state.change import Change, NewScene, as_prompts
from engine.runtime.state.state import SessionState, fixed
from engine.types import ByteArray, FloatArray

Named = dict[str, npt.NDArray[Any]]
Classes = tuple[int, ...]
Filled = tuple[str, Classes]  # a text, and a class per attribute for what it doesn't say; 0: leave it so


class Conditioner:
    """For one thread at a time, like its backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.spec = backend.spec
        self.projections = Projections(backend)

    def prepare(self, changes: Sequence[tuple[SessionState, Change]]) -> None:
        """Make each change in its state. An empty change advances a running `soft` by one step."""
        if not changes:
            return
        targets = [state.copy() for state, _ in changes]
        encoded = self._encode([(t, change) for t, (_, change) in zip(targets, changes, strict=True)])
        for target, (_, change), texts in zip(targets, changes, encoded, strict=True):
            _set_text(target, change, texts)
        scenes = [(t, c.scene) for t, (_, c) in zip(targets, changes, strict=True) if c.scene is not None]
        self._start_scenes(scenes)
        for target, (_, change) in zip(targets, changes, strict=True):
            plan_named(target, change, self.spec)
        self._remake_psi(targets)
        self.projections.make([target.text for target in targets])
        for target, (state, _) in zip(targets, changes, strict=True):  # nothing fails from here on
            state.become(target)

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
        """Start a scene from `text`, and from a picture (3, H, W) or the current anchor if wanted."""
        new = NewScene(seed, scene, image, keep_anchor)
        self.prepare([(state, Change(as_prompts(text), scene=new))])

    def recondition(self, state: SessionState, text: str) -> None:
        """Keep the scene and rebuild ψ under the new text from the kept memories."""
        self.prepare([(state, Change(as_prompts(text)))])

    def _encode(self, changes: Sequence[tuple[SessionState, Change]]) -> list[dict[str, Conditioning]]:
        """For each change its texts' conditioning, in which what no text says has a value; the state is told
        which. A call encodes at most as many texts as there are states."""
        texts = [p.text for _, change in changes for p in change.prompts or ()]
        nothing = (0,) * len(self.spec.attributes)
        known = self._read([(text, nothing) for text in texts], len(changes))
        if not nothing:
            return [{text: known[text, nothing][0] for text in texts}] * len(changes)
        said = {text: known[text, nothing][1] for text in texts}
        wanted = []
        for state, change in changes:
            if change.prompts is not None:
                state.attributes = fixed(attributes(state, change, said, self.spec))
            fill = tuple(int(value) for value in state.attributes[:, 0])
            fills = {p.text: fill if 0 in said[p.text] else nothing for p in change.prompts or ()}
            wanted.append(fills)
        known |= self._read([k for fills in wanted for k in fills.items() if k not in known], len(changes))
        return [{text: known[text, fill][0] for text, fill in fills.items()} for fills in wanted]

    def _read(self, wanted: Sequence[Filled], most: int) -> dict[Filled, tuple[Conditioning, Classes]]:
        """Each text's conditioning with its fill, and the classes that it says itself."""
        found = {}
        for some in _chunks(list(dict.fromkeys(wanted)), most):
            tokens = [self.backend.tokenize(without_landmarks(text, self.spec)) for text, _ in some]
            ids, mask = (np.stack([t[i] for t in tokens]) for i in (0, 1))
            fill = {"fill": np.array([f for _, f in some], np.int64)} if self.spec.attributes else {}
            rows = self.backend.run("encode_text", {"ids": ids, "mask": mask, **fill})
            none = np.zeros((len(some), 0), np.float32)
            masks, pooled = rows.get("text_mask", none), rows.get("pooled", none)
            said = rows.get("said", none.astype(np.int64))
            parts = zip(rows["text"], pooled, rows["motion"], masks, strict=True)
            for key, part, classes in zip(some, parts, said, strict=True):
                found[key] = Conditioning(*part), tuple(int(c) for c in classes)
        return found

    def _start_scenes(self, scenes: Sequence[tuple[SessionState, NewScene]]) -> None:
        """Empty states with the anchor and image tokens of their scene; `keep_anchor` keeps both."""
        for target, scene in scenes:
            target.clear_scene()
            target.seed, target.scene = scene.seed, scene.number
        seen = [(target, scene.image) for target, scene in scenes if scene.image is not None]
        blank = [target for target, scene in scenes if scene.image is None and not scene.keep_anchor]
        nearest: dict[int, FloatArray] = {}  # the history's last latent, where it is not the anchor
        if seen:
            rows = self.backend.run("encode_image", {"pixels": np.stack([pixels for _, pixels in seen])})
            for i, (target, _) in enumerate(seen):
                target.anchor = fixed(noisy(self.spec.start_noise, target, rows["anchor"][i], START))
                target.image = fixed(rows["image"][i]) if "image" in rows else target.image
                target.start = fixed(rows["state"][i]) if "state" in rows else target.start
                if "nearest" in rows:
                    nearest[id(target)] = noisy(self.spec.start_noise, target, rows["nearest"][i], START + 1)
        if blank:
            none = np.zeros((len(blank), *blank[0].anchor.shape), np.float32)
            images = [target.image for target in blank]
            if self.spec.image_tokens:
                inputs = {"anchor": none, "context": np.zeros(len(blank), np.float32)}
                images = list(self.backend.run("embed_image", inputs)["image"])
            for target, anchor, image in zip(blank, none, images, strict=True):
                target.anchor, target.image = fixed(anchor), fixed(image)
                target.start = fixed(np.zeros_like(target.start))
        for target, scene in scenes:
            target.from_image = target.context = int(scene.image is not None or scene.keep_anchor)
            if target.context:
                last = nearest.get(id(target), target.anchor)[0]
                target.latents = (*target.latents[:-1], fixed(last))
            target.decoder = target.start

    def _remake_psi(self, targets: Sequence[SessionState]) -> None:
        """ψ₀ of text and picture, into which the memories of the scene are squeezed again."""
        if not self.spec.memory:
            return
        inputs: Named = {"text": np.stack([t.text for t in targets])}
        inputs["image"] = np.stack([t.image for t in targets])
        rows = self.backend.run("initial_memory", inputs | masks(self.spec.masked, targets, "text_mask"))
        for i, target in enumerate(targets):
            target.psi = rows["psi"][i]
            if self.spec.masked:
                target.psi_mask = rows["psi_mask"][i]
        left = [(t, list(t.memories[len(t.memories) - t.remembered :])) for t in targets]
        while todo := [(target, memories) for target, memories in left if memories]:
            inputs = {
                "psi": np.stack([t.psi for t, _ in todo]),
                "memory": np.stack([m.pop(0) for _, m in todo]),
            }
            inputs |= masks(self.spec.masked, [t for t, _ in todo], "psi_mask")
            for (target, _), psi in zip(todo, self.backend.run("squeeze", inputs)["psi_next"], strict=True):
                target.psi, target.psi_mask = psi, np.ones_like(target.psi_mask)
        for target in targets:
            target.psi, target.psi_mask = fixed(target.psi), fixed(target.psi_mask)


def masks(masked: bool, states: Sequence[SessionState], *names: str) -> Named:
    """The masks of padded prompts, stacked; nothing for models without padding (`masked` False)."""
    return {name: np.stack([getattr(s, name) for s in states]) for name in names} if masked else {}


def noisy(levels: Sequence[float], state: SessionState, latents: FloatArray, stream: int) -> FloatArray:
    """A start picture's latents with as much noise as the model is used to, drawn once per scene."""
    if not levels:
        return latents
    sigma = np.float32(share(state.seed, state.scene, stream, *levels))
    noise = gaussian(state.seed, state.scene, 0, latents.shape, stream)
    return sigma * noise + (1 - sigma) * latents


def _set_text(target: SessionState, change: Change, encoded: dict[str, Conditioning]) -> None:
    """Set the text of the next segment. The first segment of a `soft` change already shows a part of the new
    text."""
    before = Conditioning(target.text, target.pooled, target.motion, target.text_mask)
    ends, step, over = None, target.fade_step, target.fade_steps
    if target.fading:
        ends = unflat(target.fade[0], before), unflat(target.fade[1], before)
    if change.prompts is not None:
        goal = blend([encoded[p.text] for p in change.prompts], [p.weight for p in change.prompts])
        ends, step, over = (before, goal), 0, 1 if change.scene else change.over
        target.look += change.scene is None
    after = before
    if ends is not None:
        step, target.age = step + 1, 0
        after = ends[1] if step >= over else blend(ends, (over - step, step))
    if ends is None or step >= over:  # no soft change is in progress
        if target.fading:
            target.fade = fixed(np.zeros_like(target.fade))
        target.fade_step = target.fade_steps = 0
    else:
        if step == 1:
            target.fade = fixed(np.stack([flat(end) for end in ends]))
        target.fade_step, target.fade_steps = step, over
    target.text, target.pooled, target.motion, target.text_mask = map(fixed, after)


def _chunks(texts: Sequence[Filled], size: int) -> Iterable[Sequence[Filled]]:
    return (texts[i : i + size] for i in range(0, len(texts), size))
