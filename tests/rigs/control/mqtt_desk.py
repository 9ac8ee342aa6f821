"""The MQTT bridge without its connection, for tests of commands and of several servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from server.control.base import SessionEvent
from server.control.mqtt.commands import Commands
from server.control.mqtt.connection.outbox import Outbox, Outgoing
from server.control.mqtt.dispatch import Dispatcher
from server.control.mqtt.message import Properties
from server.control.mqtt.publisher import Publisher, status_message
from server.control.mqtt.servers import Servers
from server.control.mqtt.strays import Strays
from server.control.mqtt.topics import Topics
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.engine.fakes import ManualClock

NOW = 1_800_000_000.0


class Desk:
    """The MQTT bridge without its connection, with a clock that tests set."""

    def __init__(
        self,
        *sessions: str,
        node: str = "node",
        member: bool = False,
        owner_of: Callable[[str], str | None] | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.outbox = Outbox()
        self.steering = FakeSteering(*sessions, applies=False)
        self.topics, self.servers = Topics(), Servers(node, "first", member=member)
        self.publisher = Publisher(self.steering, self.outbox, self.topics, self.servers, lambda: None)
        self.commands = Commands(
            self.steering,
            self.publisher,
            self.topics,
            self.servers,
            clock=self.clock,
            wall_clock=lambda: NOW,
        )
        self.strays = Strays(self.commands, self.topics, self.servers, owner_of, self.clock)
        self.dispatcher = Dispatcher(self.topics, self.servers, self.publisher, self.commands, self.strays)
        self.publisher.put_everything_retained()
        self.sent()

    def on_event(self, event: SessionEvent, *, connected: bool = True) -> None:
        self.commands.on_event(event)
        self.publisher.on_event(event, connected=connected)

    def hear_node(
        self, node: str, status: str, *, instance: str = "other", retain: bool = False, cluster: bool = False
    ) -> None:
        payload = status_message(node, status, 1, instance, cluster=cluster)
        self.dispatcher.on_message(f"psistream/v1/engine/{node}/status", payload, retain=retain)

    def hear_names(self, node: str, *names: str) -> None:
        payload = json.dumps({"type": "sessions", "node": node, "sessions": names}).encode()
        self.dispatcher.on_message(f"psistream/v1/engine/{node}/sessions", payload, retain=True)

    def command(
        self, verb: str, payload: bytes | str = b"", session: str = "main", retain: bool = False, **extra: Any
    ) -> None:
        raw = payload.encode() if isinstance(payload, str) else payload
        topic = f"psistream/v1/session/{session}/cmd/{verb}"
        self.dispatcher.on_message(topic, raw, Properties(**extra), retain=retain)

    def sent(self) -> list[Outgoing]:
        messages = []
        while (message := self.outbox.take()) is not None:
            messages.append(message)
        return messages

    def answers(self) -> list[tuple[str, dict[str, Any]]]:
        """(topic below the session, message) of everything sent since the last call, except messages under
        `main.node` and messages about other servers."""
        told = [(m.topic.removeprefix("psistream/v1/session/"), m.payload) for m in self.sent()]
        own = f"main.{self.servers.node}/"
        return [(t, json.loads(p)) for t, p in told if not t.startswith((own, "psistream/v1/engine"))]

    def topics_sent(self) -> list[str]:
        return [message.topic.removeprefix("psistream/v1/") for message in self.sent()]
