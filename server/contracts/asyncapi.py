"""MQTT and the data channel as AsyncAPI 3.0: topics from server/control/mqtt, messages from engine/wire.

It is stored as docs/asyncapi.json; a test fails if the two differ.
"""

from __future__ import annotations

from typing import Any

from engine.wire.controls import CONTROL_MODELS
from server.contracts.schemas import NULLABLE_TEXT, TEXT, ref, schemas
from server.control.mqtt.message import VERBS, MqttEnvelope
from server.control.mqtt.topics import Topics
from server.version import VERSION

TOPICS = Topics()
NAME = {
    "description": "the session's id; `main.NODE` for the session main, or `main` if there is one server only"
}
PARAMETERS = {
    "name": NAME,
    "verb": {"description": "the type of the control", "enum": list(VERBS)},
    "client": {"description": "as given by the command; `all` by default"},
    "node": {"description": "the server's --node"},
}
STATUS = {
    "title": "Status",
    "type": "object",
    "required": ["type", "node", "status", "sessions", "instance", "cluster"],
    "properties": {
        "type": {"const": "status"},
        "node": TEXT,
        "status": {"enum": ["online", "offline"]},
        "sessions": {"type": "integer", "minimum": 0},
        "instance": {"type": "string", "description": "changes with every start"},
        "cluster": {"type": "boolean", "description": "whether it is a gateway of a cluster"},
    },
}
NAMES = {
    "title": "Sessions",
    "type": "object",
    "required": ["type", "node", "sessions"],
    "properties": {"type": {"const": "sessions"}, "node": TEXT, "sessions": {"type": "array", "items": TEXT}},
}
ERROR = {
    "title": "Error",
    "type": "object",
    "required": ["type", "code", "message"],
    "properties": {
        "type": {"const": "error"},
        "code": TEXT,
        "message": TEXT,
        "field": NULLABLE_TEXT,
        "id": NULLABLE_TEXT,
    },
}
# channel: topic, messages, what the server does with it, QoS, retained
MQTT: dict[str, tuple[str, tuple[str, ...], str, int, bool]] = {
    "command": (TOPICS.command("{name}", "{verb}"), ("Command",), "receive", 1, False),
    "ack": (TOPICS.ack("{name}", "{client}"), ("Receipt",), "send", 1, False),
    "state": (TOPICS.state("{name}"), ("Session",), "send", 1, True),
    "event": (TOPICS.event("{name}"), ("Segment", "Closed", "Receipt"), "send", 0, False),
    "error": (TOPICS.error("{name}"), ("Error",), "send", 1, False),
    "picture": (TOPICS.picture("{name}"), ("Picture",), "send", 0, True),
    "status": (TOPICS.status("{node}"), ("Status",), "send", 1, True),
    "sessions": (TOPICS.sessions("{node}"), ("Sessions",), "send", 1, True),
}
OF_HTTP = ("Fork", "NewLink", "NewSession", "Problem")
ABOUT = {
    "command": "steer a session",
    "ack": "receipts of a client's commands",
    "state": "a session as it is, after each change",
    "event": "what happens in a session",
    "error": "commands of a session that were refused, for whoever looks after it",
    "status": "which servers there are",
    "sessions": "which sessions a server has",
    "picture": "a JPEG of a session, where Home Assistant was asked for",
    "control": "the data channel of a viewer",
}
TO_SERVER, FROM_SERVER = ("Control", "Ping"), ("Receipt", "Session", "Segment", "Closed", "Error")


def asyncapi() -> dict[str, Any]:
    """The document."""
    channels = {name: _channel(*spec) for name, spec in MQTT.items()}
    operations = {f"{does}_{name}": _operation(name, does) for name, (_, _, does, _, _) in MQTT.items()}
    operations["receive_command"]["reply"] = {"channel": {"$ref": "#/channels/ack"}}
    messages = (*TO_SERVER, *FROM_SERVER)
    channels["control"] = {
        "address": "control",
        "description": "a WebRTC data channel with this label; messages are JSON text",
        "messages": _messages(messages),
        "servers": [{"$ref": "#/servers/webrtc"}],
    }
    for does, names in (("receive", TO_SERVER), ("send", FROM_SERVER)):
        refs = [{"$ref": f"#/channels/control/messages/{name}"} for name in names]
        operations[f"{does}_control"] = {**_operation("control", does), "messages": refs}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "psistream",
            "version": VERSION,
            "description": "Steering over MQTT and a WebRTC data channel. docs/protocol.md explains it.",
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": "mqtt"}, {"name": "webrtc"}],
        },
        "servers": {
            "mqtt": {"host": "localhost:1883", "protocol": "mqtt", "protocolVersion": "5.0"},
            "webrtc": {"host": "localhost:8080", "protocol": "webrtc", "description": "by WHEP"},
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                name: _message(name)
                for name in sorted({*messages, "Command", "Status", "Sessions", "Picture"})
            },
            "schemas": dict(sorted(_schemas().items())),
        },
    }


def _channel(topic: str, messages: tuple[str, ...], does: str, qos: int, retained: bool) -> dict[str, Any]:
    used = {name: about for name, about in PARAMETERS.items() if f"{{{name}}}" in topic}
    kept = "retained" if retained else "not retained"
    return {
        "address": topic,
        "description": f"QoS {qos}, {kept}",
        "messages": _messages(messages),
        "parameters": used,
        "servers": [{"$ref": "#/servers/mqtt"}],
    }


def _messages(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _operation(channel: str, does: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": does,
        "channel": {"$ref": f"#/channels/{channel}"},
        "description": ABOUT[channel],
    }
    if channel in MQTT:
        _, _, _, qos, retained = MQTT[channel]
        operation["bindings"] = {"mqtt": {"qos": qos, "retain": retained, "bindingVersion": "0.2.0"}}
    return operation


def _message(name: str) -> dict[str, Any]:
    if name == "Picture":
        return {"name": name, "contentType": "image/jpeg", "payload": {"type": "string", "format": "binary"}}
    correlation = {"location": "$message.payload#/id"}
    made: dict[str, Any] = {"name": name, "contentType": "application/json", "payload": ref(name)}
    return {**made, "correlationId": correlation} if name in ("Command", "Receipt", "Control") else made


def _schemas() -> dict[str, Any]:
    fields = {name: {"description": info.description} for name, info in MqttEnvelope.model_fields.items()}
    controls = [ref(model.__name__) for kind, model in CONTROL_MODELS.items() if kind in VERBS]
    command = {
        "title": "Command",
        "description": "a control whose `type` the topic gives, and these fields beside its own; a prompt "
        "may be plain text, an action the bare word, a rewind and a reset a bare number",
        "anyOf": [{"type": "object", "properties": fields}, {"type": "string"}, {"type": "number"}],
        "x-control": controls,
    }
    own = {"Command": command, "Status": STATUS, "Sessions": NAMES, "Error": ERROR}
    made = {**schemas(), **own, "Ping": ref("PingMessage")}
    for name in OF_HTTP:
        del made[name]
    made["Control"] = {**made["Control"], "discriminator": "type"}  # a string here, an object in OpenAPI
    return made
