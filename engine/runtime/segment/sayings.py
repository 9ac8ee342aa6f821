"""What prompts say beyond their tokens: landmarks to plan, and values for what they leave open.

Landmarks are read from a prompt by a grammar, and what names them is taken out before the model reads the
rest. An attribute that no prompt says keeps its value; at a scene's start the seed chooses one. Pure
functions; the model is unknown here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from engine.landmarks.plan import Asked, CameraView, with_named
from engine.landmarks.sentence import Reading, read
from engine.model.signature import ModelSpec
from engine.runtime.state.change import Change
from engine.runtime.state.state import SessionState, fixed
from engine.types import FloatArray, Prompts

MOST = 8  # landmarks of one prompt


@lru_cache(maxsize=256)
def _read(text: str, kinds: tuple[str, ...], colours: tuple[str, ...]) -> Reading:
    return read(text, kinds, colours)


def without_landmarks(text: str, spec: ModelSpec) -> str:
    """What is left of a text for the model to read."""
    return _read(text, spec.landmark_kinds, spec.landmark_colours)[1] if spec.landmarks else text


def wanted(prompts: Prompts, spec: ModelSpec) -> list[Asked]:
    """The landmarks that prompts ask for, in order."""
    found = []
    for prompt in prompts if spec.landmarks else ():
        for r in _read(prompt.text, spec.landmark_kinds, spec.landmark_colours)[0]:
            colour = None if r.colour is None else spec.landmark_colours.index(r.colour)
            found += [Asked(spec.landmark_kinds.index(r.kind), colour, r.where, r.more)] * r.number
    return found[:MOST]


def plan_named(state: SessionState, change: Change, spec: ModelSpec) -> None:
    """Plan what the change's prompts name, as of the state's scene and camera."""
    asked = wanted(change.prompts or (), spec)
    if not asked:
        return
    scene = CameraView(
        state.odometer, _travel(state, spec), state.seed, state.scene, not state.index and not state.context
    )
    plan, named = with_named(state.landmarks, state.named, asked, scene, spec)
    state.landmarks, state.named = fixed(plan), fixed(named)


def _travel(state: SessionState, spec: ModelSpec) -> int:
    """The way that the prompt asks for, else that of the latest segment."""
    ways = {"right": 1, "left": -1}
    motion = int(np.argmax(state.motion))
    asked = ways.get(spec.actions[motion - 1], 0) if motion else 0
    return asked or ways.get(spec.actions[state.acted], 0) * bool(state.index)


def attributes(
    state: SessionState, change: Change, said: Mapping[str, Sequence[int]], spec: ModelSpec
) -> FloatArray:
    """(V, 2): each attribute's value under the change's prompts, and whether the seed chose it. `said` has
    the classes that a text says, 0 for none; of several texts the heaviest that says something counts."""
    before, scene = state.attributes, change.scene
    if scene is not None:
        before = np.zeros_like(before)
        if scene.image is None and not scene.keep_anchor:
            drawn = drawn_values(scene.seed, scene.number, spec)
            before = np.stack([drawn, np.ones_like(drawn)], 1).reshape(before.shape)
    found = before.copy()
    for prompt in sorted(change.prompts or (), key=lambda p: p.weight):
        for i, value in enumerate(said[prompt.text]):
            if value:
                found[i] = value, 0
    return found


def drawn_values(seed: int, scene: int, spec: ModelSpec) -> FloatArray:
    """(V,) a value of each attribute, the same for a seed's scene whatever is said."""
    bits = np.random.Philox(key=[seed, scene % 2**63], counter=[0, 0, 3, 0])
    chance = np.random.Generator(bits)
    return np.array([1 + chance.integers(len(v)) for v in spec.choices.values()], np.float32)
