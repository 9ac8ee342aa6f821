"""Controls ↔ the JSON objects that docs/protocol.md describes, for control logs: people read and write them.

The schema of what clients send is the server's; a test keeps the two in agreement. What is read here is only
of the right form: whether it can be done, the session checks when it applies it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image as Pillow

from engine.errors import InvalidInput
from engine.images import decode_image
from engine.model.signature import ModelSpec
from engine.runtime.state.change import Prompts
from engine.types import (
    Action,
    ByteArray,
    ControlBody,
    Image,
    Pause,
    Prompt,
    Reset,
    Resume,
    Rewind,
    Weighted,
)

FIELDS = {
    "prompt": ("text", "prompts", "how", "when", "transition_segments"),
    "action": ("action",),
    "pause": (),
    "resume": (),
    "reset": ("seed", "when"),
    "rewind": ("seconds",),
    "image": ("data", "when"),
}


def to_wire(body: ControlBody) -> dict[str, Any]:
    """With every field that its type has."""
    match body:
        case Prompt(text=text):
            said = {"text": text} if isinstance(text, str) else {"prompts": weighted_json(text)}
            over = body.transition_segments
            return {"type": "prompt", **said, "how": body.how, "when": body.when, "transition_segments": over}
        case Image(pixels=pixels):
            return {"type": "image", "data": png(pixels), "when": body.when}
        case Action() | Pause() | Resume() | Reset() | Rewind():
            return {"type": type(body).__name__.lower(), **asdict(body)}


def from_wire(message: Mapping[str, Any], spec: ModelSpec) -> ControlBody:
    """Raises InvalidInput with the field at fault."""
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise InvalidInput(f"type must be one of {', '.join(FIELDS)}", field="type")
    given = {name: value for name, value in message.items() if name != "type"}
    for name in given:
        if name not in FIELDS[kind]:
            known = ", ".join(FIELDS[kind]) or "none"
            raise InvalidInput(f"{name} is not a field of {kind}: remove it (known: {known})", field=name)
    match kind:
        case "prompt":
            return _prompt(given)
        case "image":
            pixels = pixels_of(given.pop("data", None), spec, "data")
            return Image(pixels, **given)
        case "action":
            return Action(_needed(given, "action", "an action or null"))
        case "rewind":
            return Rewind(_needed(given, "seconds", "a number from 0 up"))
        case "reset":
            return Reset(**given)
    return Pause() if kind == "pause" else Resume()


def weighted_json(prompts: Prompts) -> list[dict[str, Any]]:
    return [asdict(prompt) for prompt in prompts]


def weighted_of(value: object, field: str) -> Prompts:
    """From a list of objects with `text` and maybe `weight`."""
    if not isinstance(value, list):
        raise InvalidInput(f"{field} must be a list of objects with text and weight", field=field)
    found = []
    for part in value:
        if not isinstance(part, dict) or not {"text"} <= set(part) <= {"text", "weight"}:
            raise InvalidInput(f"{field} must be a list of objects with text and weight", field=field)
        found.append(Weighted(part["text"], part.get("weight", 1.0)))
    return tuple(found)


def png(pixels: ByteArray) -> str:
    """(3, H, W) → base64."""
    file = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def pixels_of(data: object, spec: ModelSpec, field: str) -> ByteArray:
    try:
        return decode_image(binary(data, field), spec.width, spec.height)
    except InvalidInput as error:
        raise InvalidInput(error.message, field=field) from None


def binary(data: object, field: str) -> bytes:
    """From base64."""
    try:
        if isinstance(data, str):
            return base64.b64decode(data, validate=True)
    except ValueError:
        pass
    raise InvalidInput(f"{field} must be a file in base64", field=field)


def _prompt(given: dict[str, Any]) -> Prompt:
    if ("text" in given) == ("prompts" in given):
        raise InvalidInput("a prompt has either text or prompts", field="text")
    if "prompts" in given:
        return Prompt(weighted_of(given.pop("prompts"), "prompts"), **given)
    if not isinstance(text := given.pop("text"), str):
        raise InvalidInput("text must be a string", field="text")
    return Prompt(text, **given)


def _needed(given: dict[str, Any], name: str, rule: str) -> Any:
    if name not in given:
        raise InvalidInput(f"{name} is missing: it must be {rule}", field=name)
    return given[name]
