"""How a session starts: from a prompt, from a snapshot, or from the past of another session. Plain data."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from engine.errors import InvalidInput
from engine.model.signature import ModelSpec
from engine.runtime.state import snapshot
from engine.runtime.state.change import Change, NewScene, as_prompts, total
from engine.runtime.state.state import SessionState
from engine.types import ByteArray, OpenSession, Prompts


class Opening(NamedTuple):
    state: SessionState
    prompts: Prompts
    held: str | None  # the held action
    change: Change | None  # applied before the first segment


def opened(command: OpenSession, spec: ModelSpec, fingerprint: str = "") -> Opening:
    """From a prompt or a snapshot. Allocates or reads a whole state: never call it with a lock held.

    Raises InvalidInput for what this model cannot start from."""
    if command.snapshot is None:
        return _from_prompt(command, spec)
    saved = snapshot.load(spec, fingerprint, command.snapshot)
    return forked(command, spec, Opening(*saved, None))


def forked(command: OpenSession, spec: ModelSpec, source: Opening) -> Opening:
    """From `source`; prompt, seed and picture of the command override it. Copies references only.

    Raises InvalidInput for what this model cannot start from."""
    if command.image is not None:
        check_image(command.image, spec, "image")
    given = None if command.prompt is None else as_prompts(command.prompt)
    state, change = source.state.copy(), source.change
    prompts = given or source.prompts
    if command.image is not None:
        number = (change.scene if change and change.scene else None or NewScene(0, state.scene)).number + 1
        change = Change(prompts, scene=NewScene(state.seed, number, command.image))
    elif given is not None:
        change = total([change, Change(given)])
    if command.seed is not None:
        state.seed = command.seed
        if change is not None and change.scene is not None:
            change = replace(change, scene=replace(change.scene, seed=command.seed))
    return Opening(state, prompts, source.held, change)


def check_image(image: ByteArray, spec: ModelSpec, field: str) -> None:
    """Raises InvalidInput unless the picture has the model's size."""
    shape = (3, spec.height, spec.width)
    if image.shape != shape or image.dtype != np.uint8:
        raise InvalidInput(f"{field} must be uint8 RGB of shape {shape}", field=field)


def _from_prompt(command: OpenSession, spec: ModelSpec) -> Opening:
    if command.image is not None:
        check_image(command.image, spec, "image")
    prompts = None if command.prompt is None else as_prompts(command.prompt)
    if prompts is None or command.seed is None:
        missing = "prompt" if prompts is None else "seed"
        raise InvalidInput(f"{missing} is missing: a new video needs a prompt and a seed", field=missing)
    if spec.needs_image and command.image is None:
        raise InvalidInput(
            f"image is missing: {spec.name} continues a picture; give one with --image, "
            "or as `image` of a new session",
            field="image",
        )
    scene = NewScene(command.seed, 0, command.image)
    return Opening(SessionState.zeros(spec), prompts, None, Change(prompts, scene=scene))
