"""The one message schema: bytes from the data channel, HTTP or MQTT → engine.types.Control; events → JSON.

It knows what a valid message looks like and how to say in plain words what is wrong with one. It does not
know sessions, sockets, topics or pictures: an image control's pixels come from the `decode_image` hook.
docs/protocol.md tells the same to people; a test keeps the two in agreement.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from engine.errors import InvalidInput
from engine.types import ByteArray, Control, Receipt, SessionClosed, SessionInfo
from engine.wire.controls import (
    CONTROL_MODELS,
    CONTROLS,
    Fork,
    ImageDecoder,
    NewSession,
    PingMessage,
    PromptMessage,
    WeightedText,
    pixels_of,
)
from engine.wire.fields import MAX_IMAGE_BYTES
from engine.wire.strict_json import finite, load_object, printable
from server.control.base import SessionEvent
from server.worker.messages import SegmentStats

MAX_MESSAGE_BYTES = 16 * 1024  # data channel and MQTT: a prompt whose every byte is a \u escape still fits
MAX_HTTP_MESSAGE_BYTES = 4 * ((MAX_IMAGE_BYTES + 2) // 3) + MAX_MESSAGE_BYTES


# ---- in ----


def parse_control(
    raw: bytes | str | dict[str, Any],
    *,
    max_bytes: int = MAX_MESSAGE_BYTES,
    decode_image: ImageDecoder | None = None,
) -> Control:
    """One valid Control, or InvalidInput that names the field and the fix. A missing id is made here.

    Without `decode_image` (data channel, MQTT) image controls are refused. Decoding a picture costs
    milliseconds: where it is given, call this in a thread (asyncio.to_thread)."""
    message = load_object(raw, max_bytes)
    try:
        valid = CONTROLS.validate_python(message)
    except ValidationError as error:
        raise _plain_error(error, message, CONTROL_MODELS.get(str(message.get("type")))) from None
    return Control(id=valid.id or make_id(), body=valid.body(decode_image))


def parse_ping(message: dict[str, Any]) -> dict[str, Any]:
    """The pong for a message of type ping."""
    try:
        ping = PingMessage.model_validate(message)
    except ValidationError as error:
        raise _plain_error(error, message, PingMessage) from None
    return {"type": "pong", "id": ping.id}


def parse_new_session(
    raw: bytes | str | dict[str, Any],
    *,
    max_bytes: int = MAX_HTTP_MESSAGE_BYTES,
    decode_image: ImageDecoder | None = None,
) -> tuple[NewSession, ByteArray | None]:
    """The request of POST /v1/sessions and the pixels of its image, if it has one."""
    message = load_object(raw, max_bytes)
    try:
        valid = NewSession.model_validate(message)
    except ValidationError as error:
        raise _plain_error(error, message, NewSession) from None
    return valid, None if valid.image is None else pixels_of(valid.image, decode_image, field="image")


def parse_fork(raw: bytes | str | dict[str, Any]) -> Fork:
    """The request of POST /v1/sessions/{id}/fork."""
    message = load_object(raw, MAX_MESSAGE_BYTES)
    try:
        return Fork.model_validate(message)
    except ValidationError as error:
        raise _plain_error(error, message, Fork) from None


def make_id() -> str:
    return secrets.token_hex(8)


def salvage_id(raw: bytes | str | dict[str, Any], *, max_bytes: int = MAX_MESSAGE_BYTES) -> str | None:
    """The id of a message that was refused, so that its sender can tell which one; None if it has none."""
    try:
        candidate = load_object(raw, max_bytes).get("id")
    except InvalidInput:
        return None
    return (
        candidate
        if isinstance(candidate, str) and 0 < len(candidate) <= 64 and candidate.isprintable()
        else None
    )


def _plain_error(
    error: ValidationError, message: dict[str, Any], model: type[BaseModel] | None
) -> InvalidInput:
    """The first fault, in words a person can act on; never more of the message than a field's name."""
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
    if model is PromptMessage and len(path) > 2 and path[0] == "prompts":
        return path[:3], WeightedText.model_fields
    return path[:1], model.model_fields


# ---- out ----


def receipt_json(receipt: Receipt, *, field: str | None = None, pts_90k: int | None = None) -> dict[str, Any]:
    """`field` is the culprit of a rejection, `pts_90k` the time of the first frame that shows the control."""
    message: dict[str, Any] = {"type": "receipt", **asdict(receipt)}
    if field is not None:
        message["field"] = field
    if pts_90k is not None:
        message["pts_90k"] = pts_90k
    return message


def error_json(code: str, text: str, *, field: str | None = None) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": text, "field": field}


def event_json(event: SessionEvent, *, pts_90k: int | None = None) -> dict[str, Any]:
    """The wire form of whatever a Steering listener hears."""
    match event:
        case Receipt():
            return receipt_json(event, pts_90k=pts_90k)
        case SegmentStats():
            return {"type": "segment", **finite(asdict(event))}
        case SessionInfo():
            return {"type": "session", **finite(asdict(event))}
        case SessionClosed(session, code, message):
            return {"type": "closed", "session": session, "code": code, "message": message}
