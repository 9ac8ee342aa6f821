"""pydantic's errors → one InvalidInput that a person can act on. It repeats only field names of the
message."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from engine.errors import InvalidInput
from engine.wire.controls import CONTROL_MODELS, WeightedText
from engine.wire.strict_json import printable


def explained(error: ValidationError, message: dict[str, Any], model: type[BaseModel] | None) -> InvalidInput:
    """The first fault. `model` is the message's; None where its `type` is unknown."""
    fault = error.errors(include_url=False, include_input=False)[0]
    kind, path = fault["type"], fault["loc"]
    if path and path[0] in CONTROL_MODELS and model in CONTROL_MODELS.values():
        path = path[1:]  # pydantic puts the union's tag first
    if kind.startswith("union_tag") or model is None:
        known = ", ".join(f'"{name}"' for name in CONTROL_MODELS)
        absent = "type is missing: it" if "type" not in message else "type"
        return InvalidInput(f"{absent} must be one of {known}", field="type")
    path, fields = _innermost(path, model)
    name = str(fault.get("ctx", {}).get("field") or (path[-1] if path else "message"))
    shown = printable(
        "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:] or name
    )
    if kind == "extra_forbidden":
        return InvalidInput(
            f"{shown} is not a known field: remove it (known: {', '.join(fields)})", field=shown
        )
    if kind == "plain":
        return InvalidInput(f"{shown} {fault['msg']}", field=shown)
    rule = fields[name].description if name in fields else None
    start = f"{shown} is missing: it" if kind == "missing" else shown
    return InvalidInput(f"{start} must be {rule or 'as docs/protocol.md says'}", field=shown)


def _innermost(
    path: tuple[int | str, ...], model: type[BaseModel]
) -> tuple[tuple[int | str, ...], dict[str, FieldInfo]]:
    """The path without pydantic's own names, and the fields of the object that it leads into."""
    if len(path) > 2 and path[0] == "prompts":
        return path[:3], WeightedText.model_fields
    return path[:1], model.model_fields
