"""Bytes → valid controls and requests, or one InvalidInput that names the field and the fix.

The only place where messages are validated: the data channel, HTTP, MQTT, control logs and snapshots all use
it. Pictures are decoded by the `decode_image` hook. docs/protocol.md describes the same for people, and a
test compares the two.
"""

from __future__ import annotations

import secrets
from typing import Any, TypeVar

from pydantic import ValidationError

from engine.errors import InvalidInput
from engine.types import ByteArray, Control, ControlBody
from engine.wire.controls import CONTROL_MODELS, CONTROLS, ControlMessage, ImageDecoder, Message, pixels_of
from engine.wire.faults import explained
from engine.wire.fields import MAX_IMAGE_BYTES, MAX_VIDEO_BYTES, STORED
from engine.wire.requests import Fork, NewLink, NewSession, PingMessage, StoredOpening
from engine.wire.strict_json import load_object

MAX_MESSAGE_BYTES = 16 * 1024  # data channel and MQTT: a prompt whose every byte is a \u escape still fits
MAX_HTTP_MESSAGE_BYTES = 4 * ((MAX_IMAGE_BYTES + 2) // 3) + MAX_MESSAGE_BYTES
MAX_OPENING_BYTES = 4 * ((MAX_VIDEO_BYTES + 2) // 3) + MAX_MESSAGE_BYTES  # a new session may bring a clip

Raw = bytes | str | dict[str, Any]
M = TypeVar("M", bound=Message)


def parse_control(
    raw: Raw, *, max_bytes: int = MAX_MESSAGE_BYTES, decode_image: ImageDecoder | None = None
) -> Control:
    """One valid Control. A missing id is made here. Raises InvalidInput.

    Without `decode_image` (data channel, MQTT) image controls are refused. Decoding a picture costs
    milliseconds: where `decode_image` is given, call this in a thread (asyncio.to_thread)."""
    valid = _control(load_object(raw, max_bytes), None)
    return Control(id=valid.id or make_id(), body=valid.body(decode_image))


def stored_control(message: dict[str, Any], decode_image: ImageDecoder) -> ControlBody:
    """The body of a control from a log, exactly as it was stored. Raises InvalidInput."""
    return _control(message, STORED).body(decode_image)


def stored_opening(message: dict[str, Any]) -> StoredOpening:
    """The fields of a log's or a snapshot's opening, exactly as they were stored. Raises InvalidInput."""
    return _parsed(StoredOpening, message, STORED)


def parse_ping(message: dict[str, Any]) -> dict[str, Any]:
    """The pong for a message of type ping. Raises InvalidInput."""
    return {"type": "pong", "id": _parsed(PingMessage, message).id}


def parse_new_session(
    raw: Raw, *, max_bytes: int = MAX_HTTP_MESSAGE_BYTES, decode_image: ImageDecoder | None = None
) -> tuple[NewSession, ByteArray | None]:
    """The body of POST /v1/sessions, and the pixels of its image if it has one. Raises InvalidInput."""
    valid = _parsed(NewSession, load_object(raw, max_bytes))
    return valid, None if valid.image is None else pixels_of(valid.image, decode_image, field="image")


def parse_fork(raw: Raw) -> Fork:
    """The body of POST /v1/sessions/{id}/fork. Raises InvalidInput."""
    return _parsed(Fork, load_object(raw, MAX_MESSAGE_BYTES))


def parse_new_link(raw: Raw) -> NewLink:
    """The body of POST /v1/sessions/{id}/links. Raises InvalidInput."""
    return _parsed(NewLink, load_object(raw, MAX_MESSAGE_BYTES))


def make_id() -> str:
    return secrets.token_hex(8)


def salvage_id(raw: Raw, *, max_bytes: int = MAX_MESSAGE_BYTES) -> str | None:
    """The id of a refused message, so that its sender can tell which one; None if it has no valid id."""
    try:
        candidate = load_object(raw, max_bytes).get("id")
    except InvalidInput:
        return None
    valid = isinstance(candidate, str) and 0 < len(candidate) <= 64 and candidate.isprintable()
    return candidate if valid else None


def _control(message: dict[str, Any], context: dict[str, Any] | None) -> ControlMessage:
    try:
        return CONTROLS.validate_python(message, context=context)
    except ValidationError as error:
        raise explained(error, message, CONTROL_MODELS.get(str(message.get("type")))) from None


def _parsed(model: type[M], message: dict[str, Any], context: dict[str, Any] | None = None) -> M:
    try:
        return model.model_validate(message, context=context)
    except ValidationError as error:
        raise explained(error, message, model) from None
