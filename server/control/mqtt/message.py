"""Converts one MQTT message on a command topic to a control and a route for its answers. Pure; never raises.

The verb in the topic is the type. For use with mosquitto_pub, the payload may be plain text: the prompt, the
action's name, the seconds of a rewind. Pause, resume and reset need no payload. This module doesn't know
brokers, clocks or live sessions.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import InvalidInput
from engine.types import Control
from engine.wire.controls import CONTROL_MODELS
from engine.wire.parse import MAX_MESSAGE_BYTES, make_id, parse_control, salvage_id
from engine.wire.strict_json import load_object, printable
from server.control.mqtt import topics

BARE_NUMBER = {"rewind": "seconds", "reset": "seed"}  # the field that a payload of one number sets
JSON_TYPE = "application/json"
MAX_USER_PROPERTIES, MAX_USER_BYTES = 16, 2048  # larger user properties are not returned with the answers
MAX_TOKEN = 256  # characters
VERBS = tuple(name for name in CONTROL_MODELS if name != "image")


class MqttEnvelope(BaseModel):
    """The additional fields of a command sent over MQTT."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    client: str = Field(default=topics.ALL_CLIENTS, description=topics.NAME_RULE)
    token: str | None = Field(
        default=None,
        max_length=MAX_TOKEN,
        description="a string: the session's token, or a key of the server",
    )
    reply_to: str | None = Field(default=None, description="a topic for the answers instead of ack/{client}")
    expires_at: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="a number: Unix time in seconds after which to ignore this",
    )


@dataclass(frozen=True)
class Properties:
    """The properties of an MQTT 5 message that are used; all absent in MQTT 3.1.1."""

    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: float | None = None  # how long the message remains valid
    content_type: str | None = None
    user: tuple[tuple[str, str], ...] = ()

    @property
    def returned(self) -> tuple[tuple[str, str], ...]:
        """The user properties that every answer repeats; none if there are too many or they are too long."""
        size = sum(len(name) + len(value) for name, value in self.user)
        return self.user if len(self.user) <= MAX_USER_PROPERTIES and size <= MAX_USER_BYTES else ()


NO_PROPERTIES = Properties()


@dataclass(frozen=True)
class Route:
    """Where the answers to one control go, and which properties they repeat."""

    topic: str
    correlation: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Command:
    """Either `control` or `error` is set. `id` is the sender's, or generated so that the answer has one."""

    id: str
    route: Route
    control: Control | None = None
    error: InvalidInput | None = None
    expires_at: float | None = None
    token: str | None = field(default=None, repr=False)
    awaited: bool = False  # the sender can tell which answer is meant for this command


def read_command(
    all_topics: topics.Topics,
    name: str,
    verb: str,
    payload: bytes,
    properties: Properties = NO_PROPERTIES,
    *,
    max_bytes: int = MAX_MESSAGE_BYTES,
) -> Command:
    """`name` and `verb` come from the topic. `reply_to` in the JSON takes precedence over the response
    topic."""
    made, given = make_id(), None
    back = (properties.correlation, properties.returned)
    route = Route(all_topics.ack(name), *back)
    try:
        if properties.response_topic is not None:
            reply = _checked_reply(all_topics, properties.response_topic, name, "the MQTT 5 response topic")
            route = Route(reply, *back)
        fields = _fields(verb, payload, max_bytes, properties.content_type)
        given = salvage_id(fields)
        if topics.is_name(fields.get("client")):
            route = Route(all_topics.ack(name, fields["client"]), *back)
        envelope = _envelope(fields)
        if envelope.reply_to is not None:
            route = Route(_checked_reply(all_topics, envelope.reply_to, name, "reply_to"), *back)
        body = {key: value for key, value in fields.items() if key not in MqttEnvelope.model_fields}
        control = parse_control({"id": given or made, **body, "type": verb})
        awaited = given is not None or properties.response_topic is not None
        return Command(
            control.id,
            route,
            control,
            expires_at=envelope.expires_at,
            token=envelope.token,
            awaited=awaited,
        )
    except InvalidInput as error:
        awaited = given is not None or properties.response_topic is not None
        return Command(given or made, route, error=error, awaited=awaited)


def _fields(verb: str, payload: bytes, max_bytes: int, content_type: str | None) -> dict[str, Any]:
    """The fields in the payload, which is JSON or plain text."""
    if verb not in VERBS:
        raise InvalidInput(
            f"the verb {printable(verb)} is unknown: publish to cmd/ with one of {', '.join(VERBS)}",
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
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind and kind != JSON_TYPE and not kind.startswith("text/"):
        raise InvalidInput(
            f"the content type must be {JSON_TYPE} or text/plain, not {printable(kind)}", field="content_type"
        )
    if kind == JSON_TYPE and text and not text.startswith(("{", '"')) and verb not in BARE_NUMBER:
        raise InvalidInput("the message must be a JSON object, as its content type says", field="message")
    if text.startswith("{") and not kind.startswith("text/"):
        fields = load_object(text, max_bytes)
        if fields.get("type", verb) != verb:
            raise InvalidInput(f"type must be {verb}, as the topic says, or left out", field="type")
        return fields
    return _plain(verb, _unquoted(text))


def _unquoted(text: str) -> str:
    """The content of a JSON string. Other text is returned unchanged."""
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
    """A plain number. Other text is returned unchanged, and the schema reports what is wrong with it."""
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


def _checked_reply(all_topics: topics.Topics, topic: str, name: str, what: str) -> str:
    if not all_topics.may_reply_to(topic, name):
        raise InvalidInput(
            f"{what} must be a topic of at most {topics.MAX_TOPIC_BYTES} bytes, without wildcards, and "
            f"must not begin with $. Inside {all_topics.prefix.partition('/')[0]}/ it must be "
            f"{all_topics.ack(name, '…')}",
            field="reply_to",
        )
    return topic
