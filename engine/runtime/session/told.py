"""What a session tells of its scene: the attributes' values, and the landmarks that prompts have named."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine.landmarks.plan import MET
from engine.model.signature import ModelSpec
from engine.runtime.state.state import SessionState
from engine.types import NamedLandmark


class Told(NamedTuple):
    """As in SessionInfo."""

    attributes: dict[str, str]
    chosen: tuple[str, ...]
    landmarks: tuple[NamedLandmark, ...]


def told(state: SessionState, spec: ModelSpec) -> Told:
    values, chosen = {}, []
    for (name, names), (value, drawn) in zip(spec.choices.items(), state.attributes, strict=True):
        if value:
            values[name] = names[int(value) - 1]
            chosen += [name] if drawn else []
    return Told(values, tuple(chosen), _landmarks(state, spec))


def _landmarks(state: SessionState, spec: ModelSpec) -> tuple[NamedLandmark, ...]:
    found = []
    for slot in np.flatnonzero(state.named):
        x, kind, colour, _ = state.landmarks[slot]
        px = round(float(x) - state.odometer * (spec.width / spec.latent_width))
        kinds, colours = spec.landmark_kinds[int(kind) - 1], spec.landmark_colours[int(colour)]
        found.append(NamedLandmark(kinds, colours, px, bool(state.named[slot] == MET)))
    return tuple(sorted(found, key=lambda one: one.px))
