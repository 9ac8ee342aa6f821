"""MQTT discovery for Home Assistant: session `main` of this server as a device with its entities.

The fields are those of https://www.home-assistant.io/integrations/mqtt/ in 2026. Pure: it makes messages and
knows no connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.wire.strict_json import dump
from server.control.mqtt.connection.outbox import Outgoing
from server.control.mqtt.topics import Topics, main_of
from server.version import VERSION

ROOT = "homeassistant"
MAX_TEXT = 255  # characters of a state in Home Assistant
NO_ACTION = "none"
REWIND_S = 5


class Entity(NamedTuple):
    component: str
    name: str
    label: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class HomeAssistant:
    """The description of one server for Home Assistant: `fps` and `actions` are those of its model."""

    topics: Topics
    node: str
    fps: float
    actions: tuple[str, ...]

    def messages(self) -> list[Outgoing]:
        """One retained configuration per entity."""
        return [self._configuration(entity) for entity in self.entities()]

    def entities(self) -> list[Entity]:
        buttons = (("pause", "Pause", "{}"), ("resume", "Resume", "{}"), ("reset", "Reset", "{}"))
        return [
            Entity("text", "prompt", "Prompt", self._prompt()),
            Entity("select", "action", "Action", self._action()),
            *(Entity("button", verb, label, self._press(verb, body)) for verb, label, body in buttons),
            Entity("button", "rewind", f"Back {REWIND_S} s", self._press("rewind", str(REWIND_S))),
            Entity("sensor", "state", "State", self._state()),
            Entity("sensor", "fps", "Frames per second", self._frame_rate()),
            Entity("sensor", "viewers", "Viewers", self._viewers()),
            Entity("image", "picture", "Picture", self._picture()),
        ]

    def _configuration(self, entity: Entity) -> Outgoing:
        device = f"psistream_{re.sub('[^a-zA-Z0-9_-]', '_', self.node)}"
        fields = {
            "name": entity.label,
            "unique_id": f"{device}_{entity.name}",
            "default_entity_id": f"{entity.component}.{_slug(f'{device}_{entity.name}')}",
            "availability_topic": self.topics.status(self.node),
            "availability_template": "{{ value_json.status }}",
            "payload_available": "online",
            "payload_not_available": "offline",
            "device": {
                "identifiers": [device],
                "name": f"psistream {self.node}",
                "manufacturer": "psistream",
                "model": "endless video",
                "sw_version": VERSION,
            },
            "origin": {"name": "psistream", "sw_version": VERSION},
            **entity.fields,
        }
        topic = f"{ROOT}/{entity.component}/{device}/{entity.name}/config"
        return Outgoing(topic, dump(fields).encode(), qos=1, retain=True)

    # ---- fields of the entities ----

    def _command(self, verb: str) -> dict[str, Any]:
        return {"command_topic": self.topics.command(main_of(self.node), verb), "qos": 1}

    def _value(self, template: str) -> dict[str, Any]:
        return {"state_topic": self.topics.state(main_of(self.node)), "value_template": template}

    def _press(self, verb: str, payload: str) -> dict[str, Any]:
        return {**self._command(verb), "payload_press": payload}

    def _prompt(self) -> dict[str, Any]:
        shown = self._value(f"{{{{ value_json.prompt[:{MAX_TEXT}] }}}}")
        return {**self._command("prompt"), **shown, "max": MAX_TEXT}

    def _action(self) -> dict[str, Any]:
        shown = self._value(f"{{{{ value_json.action or '{NO_ACTION}' }}}}")
        return {**self._command("action"), **shown, "options": [NO_ACTION, *self.actions]}

    def _state(self) -> dict[str, Any]:
        choice = "'paused' if value_json.paused else 'stalled' if value_json.buffering else 'playing'"
        return {
            **self._value(f"{{{{ {choice} }}}}"),
            "device_class": "enum",
            "options": ["playing", "paused", "stalled"],
        }

    def _frame_rate(self) -> dict[str, Any]:
        rate = f"(value_json.rate * {self.fps:g}) | round(1)"
        return {  # other events than `segment` leave the value as it was
            "state_topic": self.topics.event(main_of(self.node)),
            "value_template": f"{{{{ {rate} if value_json.type == 'segment' else this.state }}}}",
            "state_class": "measurement",
            "unit_of_measurement": "fps",
            "suggested_display_precision": 1,
        }

    def _picture(self) -> dict[str, Any]:
        return {"image_topic": self.topics.picture(main_of(self.node)), "content_type": "image/jpeg"}

    def _viewers(self) -> dict[str, Any]:
        return {**self._value("{{ value_json.viewers }}"), "state_class": "measurement"}


def _slug(text: str) -> str:
    """As Home Assistant spells ids: small letters, digits and underscores."""
    return re.sub(r"[^a-z0-9_]+", "_", text.lower())
