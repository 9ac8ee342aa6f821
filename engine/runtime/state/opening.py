"""What a session begins with: a prompt, a snapshot, or the past of another session. Plain data, checked."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from engine.errors import InvalidInput
from engine.model.signature import ModelSpec
from engine.runtime.state import snapshot
from engine.runtime.state.change import Change, NewScene, Prompts, total
from engine.runtime.state.checks import check_image, check_seed, checked_prompts
from engine.runtime.state.state import SessionState
from engine.types import OpenSession


class Origin(NamedTuple):
    state: SessionState
    prompts: Prompts
    held: str | None
    change: Change | None  # what has to be made before its first segment


def begin(command: OpenSession, spec: ModelSpec, fingerprint: str, source: Origin | None) -> Origin:
    """`source` is given for a fork. Prompt, seed and picture of the command count above those of a past.
    Raises InvalidInput."""
    if command.snapshot is not None and source is not None:
        raise InvalidInput("snapshot and fork_of exclude each other: give one", field="snapshot")
    prompts = None if command.prompt is None else checked_prompts(command.prompt, "prompt")
    if command.seed is not None:
        check_seed(command.seed, "seed")
    if command.image is not None:
        check_image(command.image, spec, "image")
    if command.snapshot is not None:
        source = Origin(*snapshot.load(spec, fingerprint, command.snapshot), None)
    if source is None:
        return _from_prompt(command, spec, prompts)
    return _from_past(command, source, prompts)


def _from_prompt(command: OpenSession, spec: ModelSpec, prompts: Prompts | None) -> Origin:
    if prompts is None or command.seed is None:
        missing = "prompt" if prompts is None else "seed"
        raise InvalidInput(f"{missing} is missing: a new video needs a prompt and a seed", field=missing)
    if spec.needs_image and command.image is None:
        raise InvalidInput(
            f"image is missing: {spec.name} goes on from a picture; give one with --image, "
            "or as `image` of a new session",
            field="image",
        )
    scene = NewScene(command.seed, 0, command.image)
    return Origin(SessionState.zeros(spec), prompts, None, Change(prompts, scene=scene))


def _from_past(command: OpenSession, source: Origin, prompts: Prompts | None) -> Origin:
    state, change = source.state, source.change
    told = prompts or source.prompts
    if command.image is not None:
        number = (change.scene if change and change.scene else None or NewScene(0, state.scene)).number + 1
        change = Change(told, scene=NewScene(state.seed, number, command.image))
    elif prompts is not None:
        change = total([change, Change(prompts)])
    if command.seed is not None:
        state.seed = command.seed
        if change is not None and change.scene is not None:
            change = replace(change, scene=replace(change.scene, seed=command.seed))
    return Origin(state, told, source.held, change)
