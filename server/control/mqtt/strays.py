"""Strays: commands for sessions that no server on the broker has. Exactly one server answers them, the first
by name of those that are online, so that no client waits for ever.

It waits for a moment before it does: the session may have just been opened, or be on its way to another
gateway. A gateway of a cluster hears of its own sessions' commands only, so the one that answers for all of
them listens on a connection of its own, whose flood delays nobody's commands.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import aiomqtt

from engine.errors import Unavailable
from server.control.mqtt.commands import Commands
from server.control.mqtt.connection.client import MqttClient, properties_of, why
from server.control.mqtt.message import Properties
from server.control.mqtt.servers import Servers
from server.control.mqtt.topics import MAIN, CommandTopic, Topics, node_of_main

log = logging.getLogger(__name__)

WAIT_S = 1.0  # what servers say of their sessions takes milliseconds
TICK_S = 0.25
RETRY_S = 30.0
MAX_WAITING = 512  # beyond it the oldest stays unanswered


class _Stray(NamedTuple):
    due_s: float
    named: CommandTopic
    topic: str
    payload: bytes
    properties: Properties
    retain: bool


class Strays:
    """`owner_of` says which other gateway of the cluster a session belongs to, if it is one's, and is empty
    if that is not known yet; None for a server by itself."""

    def __init__(
        self,
        commands: Commands,
        topics: Topics,
        servers: Servers,
        owner_of: Callable[[str], str | None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._commands, self._topics, self._servers, self._clock = commands, topics, servers, clock
        self._owner_of = owner_of or (lambda session: None)
        self._waiting: deque[_Stray] = deque(maxlen=MAX_WAITING)

    def hear(self, topic: str, payload: bytes, properties: Properties, *, retain: bool) -> None:
        """A command that is not for this server."""
        named = self._topics.parse_command(topic)
        if named is None or (retain and not payload) or self._has_owner(named):
            return
        due_s = self._clock() + WAIT_S
        self._waiting.append(_Stray(due_s, named, topic, payload, properties, retain))

    def answer_due(self) -> None:
        """Refuse the commands that have waited long enough, if that is this server's part."""
        while self._waiting and self._waiting[0].due_s <= self._clock():
            stray = self._waiting.popleft()
            if self._servers.answers_strays and not self._has_owner(stray.named):
                code, why = self._reason(stray.named)
                again_s = Unavailable.retry_after_s if code == Unavailable.code else None
                self._commands.refuse(
                    *(stray.topic, stray.payload, stray.properties, code, why),
                    retain=stray.retain,
                    retry_after_s=again_s,
                )

    async def run(self, connect: Callable[[], MqttClient]) -> None:
        """As long as the bridge is connected, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answer(), name="mqtt-answer-strays")
            if self._servers.member:
                group.create_task(self._listen(connect), name="mqtt-hear-strays")

    async def _answer(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.answer_due()

    async def _listen(self, connect: Callable[[], MqttClient]) -> None:
        told = ""
        while True:
            await asyncio.sleep(TICK_S)
            if not self._servers.answers_strays:
                continue
            try:
                await self._listen_once(connect)
            except aiomqtt.MqttError as error:
                if told != (told := why(error)):
                    log.warning("MQTT: commands for sessions that no gateway has get no answer: %s", told)
                await asyncio.sleep(RETRY_S)

    async def _listen_once(self, connect: Callable[[], MqttClient]) -> None:
        """Until another gateway does it, or the connection is lost. Raises MqttError."""
        async with connect() as client:
            await client.listen_to(self._topics.commands)
            while self._servers.answers_strays and not client.lost:
                for message in client.arrived():
                    topic, payload = str(message.topic), bytes(message.payload)
                    self.hear(topic, payload, properties_of(message), retain=bool(message.retain))
                await asyncio.sleep(TICK_S)

    def _has_owner(self, named: CommandTopic) -> bool:
        return self._commands.is_ours(named.name) or self._servers.has(named.name)

    def _reason(self, named: CommandTopic) -> tuple[str, str]:
        """Code and text of the refusal."""
        node = node_of_main(named.name)
        if node is not None and node in self._servers.members:
            topic = self._topics.command(MAIN, named.verb)
            return "unknown_session", f"session main is not at gateway {node} now: publish to {topic}"
        owner = self._owner_of(named.name)
        if owner is None or (owner in self._servers.members and named.name != MAIN):
            return "unknown_session", "no server on this broker has this session: it has ended, or never was"
        at = f"gateway {owner}, which does not answer" if owner else "no gateway"
        return "unavailable", f"this session is with {at} now; it may come back: send the command again"
