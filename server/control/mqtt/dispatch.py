"""Dispatches incoming MQTT messages by topic: commands, other servers' status, and what an earlier run left.

Pure except for the Steering behind it: no sockets, no tasks.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from server.control.mqtt.commands import Commands
from server.control.mqtt.message import NO_PROPERTIES, Properties
from server.control.mqtt.publisher import Publisher
from server.control.mqtt.servers import Servers
from server.control.mqtt.strays import Strays
from server.control.mqtt.topics import Topics, is_name

log = logging.getLogger(__name__)


class Dispatcher:
    """`twin` says that another server uses our name; otherwise it is empty."""

    def __init__(
        self, topics: Topics, servers: Servers, publisher: Publisher, commands: Commands, strays: Strays
    ) -> None:
        self.twin = ""
        self._topics = topics
        self._servers = servers
        self._publisher = publisher
        self._commands = commands
        self._strays = strays

    def on_message(
        self, topic: str, payload: bytes, properties: Properties = NO_PROPERTIES, *, retain: bool = False
    ) -> None:
        """`retain` says that the broker stored the message before, or that it is to be retained (see
        `MqttClient.listen_to`)."""
        node = self._topics.parse_status(topic)
        if node is not None:
            self._on_status(node, _fields(payload), retain)
        elif (node := self._topics.parse_sessions(topic)) is not None:
            self._on_names(node, _fields(payload).get("sessions", []), retain)
        elif not self._commands.on_message(topic, payload, properties, retain=retain):
            self._strays.hear(topic, payload, properties, retain=retain)

    def _on_names(self, node: str, names: object, retain: bool) -> None:
        found = [name for name in names if is_name(name)] if isinstance(names, list) else []
        if node != self._servers.node:
            self._servers.hear_names(node, found)
        elif retain and found:
            self._publisher.clear_ghosts(found)

    def _on_status(self, node: str, fields: dict[str, Any], retain: bool) -> None:
        status = str(fields.get("status", "offline"))
        if node != self._servers.node:
            if self._servers.hear(node, status, member=fields.get("cluster") is True):
                self._publisher.rename_main()
        elif not retain and fields.get("instance") != self._servers.instance:
            # the last will of an earlier start, which the broker publishes late, or a server of the same name
            if status == "offline":
                self.twin = ""
                self._publisher.put_status()
            elif not self.twin:
                self.twin = f"another server calls itself {node} on this broker: give each its own --node"
                log.error("MQTT: %s", self.twin)


def _fields(payload: bytes) -> dict[str, Any]:
    """A JSON object of another server; empty for anything else."""
    try:
        content = json.loads(payload) if payload else {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
