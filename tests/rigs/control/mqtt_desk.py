"""The MQTT bridge without its connection, for tests of commands and of several servers."""

from __future__ import annotations

import json
from typing import Any

from server.control.base import SessionEvent
from server.control.mqtt.commands import Commands
from server.control.mqtt.dispatch import Dispatcher
from server.control.mqtt.message import Properties
from server.control.mqtt.outbox import Outbox, Outgoing
from server.control.mqtt.peers import Peers
from server.control.mqtt.publisher import Publisher, status_message
from server.control.mqtt.topics import Topics
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.engine.fakes import ManualClock

NOW = 1_800_000_000.0


class Desk:
    """The MQTT bridge without its connection, with a clock that tests set."""

    def __init__(self, *sessions: str, node: str = "node") -> None:
        self.clock = ManualClock()
        self.outbox = Outbox()
        self.steering = FakeSteering(*sessions, applies=False)
        self.topics, self.peers = Topics(), Peers(node, "first")
        self.publisher = Publisher(self.steering, self.outbox, self.topics, self.peers, lambda: None)
        self.commands = Commands(
            self.steering,
            self.publisher,
            self.topics,
            self.peers,
            clock=self.clock,
            wall_clock=lambda: NOW,
        )
        self.dispatcher = Dispatcher(self.topics, self.peers, self.publisher, self.commands)
        self.publisher.put_everything_retained()
        self.sent()

    def on_event(self, event: SessionEvent, *, connected: bool = True) -> None:
        self.commands.on_event(event)
        self.publisher.on_event(event, connected=connected)

    def hear_node(self, node: str, status: str, *, instance: str = "other", retain: bool = False) -> None:
        payload = status_message(node, status, 1, instance)
        self.dispatcher.on_message(f"psistream/v1/engine/{node}/status", payload, retain=retain)

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
        own = f"main.{self.peers.node}/"
        return [(t, json.loads(p)) for t, p in told if not t.startswith((own, "psistream/v1/engine"))]

    def topics_sent(self) -> list[str]:
        return [message.topic.removeprefix("psistream/v1/") for message in self.sent()]
