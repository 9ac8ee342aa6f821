"""One MQTT message on a command topic → a control and where its answers go. Pure, and it never raises.

The verb in the topic gives the type. Friendly to mosquitto_pub: a prompt may be plain text, an action the
bare word, a rewind the bare seconds, and pause, resume and reset need no payload. It doesn't know brokers,
clocks or live sessions.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import InvalidInput
from engine.types import Control
from engine.wire.controls import CONTROL_MODELS
from engine.wire.parse import MAX_MESSAGE_BYTES, make_id, parse_control, salvage_id
from engine.wire.strict_json import load_object, printable
from server.control.mqtt import topics

BARE_NUMBER = {"rewind": "seconds", "reset": "seed"}  # the field that a message of one number gives
VERBS = tuple(name for name in CONTROL_MODELS if name != "image")


class MqttEnvelope(BaseModel):
    """What may stand beside a control's own fields when it comes by MQTT."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    client: str = Field(default=topics.ALL_CLIENTS, description=topics.NAME_RULE)
    reply_to: str | None = Field(default=None, description="a topic for the answers instead of ack/{client}")
    expires_at: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="a number: Unix time in seconds after which to ignore this",
    )


@dataclass(frozen=True)
class Route:
    """Where the answers to one control go."""

    topic: str
    correlation: bytes | None = None


@dataclass(frozen=True)
class Command:
    """Either `control` or `error` is set. `id` is the sender's, or made here so that the answer has one."""

    id: str
    route: Route
    control: Control | None = None
    error: InvalidInput | None = None
    expires_at: float | None = None


def read_command(
    session: str,
    verb: str,
    payload: bytes,
    *,
    response_topic: str | None = None,
    correlation: bytes | None = None,
    max_bytes: int = MAX_MESSAGE_BYTES,
) -> Command:
    """`response_topic` and `correlation` are MQTT 5's; `reply_to` in the JSON counts before the former."""
    id_ = make_id()
    route = Route(topics.ack(session), correlation)
    try:
        if response_topic is not None:
            route = Route(_checked_reply(response_topic, session, "the MQTT 5 response topic"), correlation)
        fields = _fields(verb, payload, max_bytes)
        id_ = salvage_id(fields) or id_
        if topics.is_name(fields.get("client")):
            route = Route(topics.ack(session, fields["client"]), correlation)
        envelope = _envelope(fields)
        if envelope.reply_to is not None:
            route = Route(_checked_reply(envelope.reply_to, session, "reply_to"), correlation)
        body = {name: value for name, value in fields.items() if name not in MqttEnvelope.model_fields}
        control = parse_control({"id": id_, **body, "type": verb})
        return Command(id_, route, control=control, expires_at=envelope.expires_at)
    except InvalidInput as error:
        return Command(id_, route, error=error)


def _fields(verb: str, payload: bytes, max_bytes: int) -> dict[str, Any]:
    """The fields that the payload states, whatever way it states them."""
    if verb not in VERBS:
        raise InvalidInput(
            f"the verb {printable(verb)} is not known: publish to cmd/ with one of {', '.join(VERBS)}",
            field="verb",
        )
    if len(payload) > max_bytes:
        raise InvalidInput(
            f"the message is {len(payload)} bytes, at most {max_bytes} are allowed: shorten it",
            field="message",
        )
    try:
        text = payload.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise InvalidInput("the message is not valid UTF-8: encode it as UTF-8", field="message") from None
    if text.startswith("{"):
        fields = load_object(text, max_bytes)
        if fields.get("type", verb) != verb:
            raise InvalidInput(f"type must be {verb}, as the topic says, or left out", field="type")
        return fields
    return _plain(verb, _unquoted(text))


def _unquoted(text: str) -> str:
    """A JSON string's content; any other text as it is."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text


def _plain(verb: str, text: str) -> dict[str, Any]:
    if verb == "prompt":
        return {"text": text}
    if verb == "action":
        return {"action": None if text in ("null", "none") else text}
    if not text:
        return {}
    if verb in BARE_NUMBER:
        return {BARE_NUMBER[verb]: _number(text)}
    raise InvalidInput(f"{verb} takes an empty message or a JSON object", field="message")


def _number(text: str) -> float | str:
    """A plain number; of any other text the schema says what should stand there."""
    if re.fullmatch(r"-?\d{1,15}", text, re.ASCII):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d{0,15}\.\d{1,9}", text, re.ASCII) else text


def _envelope(fields: dict[str, Any]) -> MqttEnvelope:
    given = {name: fields[name] for name in MqttEnvelope.model_fields if name in fields}
    try:
        envelope = MqttEnvelope.model_validate(given)
    except ValidationError as error:
        name = str(error.errors(include_url=False, include_input=False)[0]["loc"][0])
        raise InvalidInput(
            f"{name} must be {MqttEnvelope.model_fields[name].description}", field=name
        ) from None
    if not topics.is_name(envelope.client):
        raise InvalidInput(f"client must be {topics.NAME_RULE}", field="client")
    return envelope


def _checked_reply(topic: str, session: str, what: str) -> str:
    if not topics.may_reply_to(topic, session):
        raise InvalidInput(
            f"{what} must be a topic of at most {topics.MAX_TOPIC_BYTES} bytes without wildcards, not begin "
            f"with $, and inside psistream/ be {topics.ack(session, '…')}",
            field="reply_to",
        )
    return topic
