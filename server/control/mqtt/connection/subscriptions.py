"""The command topics that are subscribed: of a server by itself those of all sessions of all servers, so that
it can answer for sessions that don't exist; of a gateway of a cluster those of its own sessions, and of saved
ones that wait for a place there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from engine.types import SessionClosed, SessionInfo
from server.control.base import SessionEvent, Steering
from server.control.mqtt.connection.client import MqttClient
from server.control.mqtt.servers import Servers
from server.control.mqtt.topics import MAIN, Topics

LOOK_S = 1.0  # how often it looks which sessions wait: no event tells of them


class Subscriptions:
    """`on_event` hears of sessions; `follow` runs as long as a connection does. `on_waiting` is called when
    other sessions wait for a place than before."""

    def __init__(
        self, steering: Steering, topics: Topics, servers: Servers, on_waiting: Callable[[], None]
    ) -> None:
        self._on_waiting, self._waiting = on_waiting, set(steering.waiting_ids())
        self._steering, self._topics, self._servers = steering, topics, servers
        self._current: set[str] = set()
        self._changed, self._settled = asyncio.Event(), asyncio.Event()
        self._settled.set()

    def on_event(self, event: SessionEvent) -> None:
        match event:
            case SessionInfo(session):
                changed = self._topics.command(session, "+") not in self._current
            case SessionClosed(session):
                changed = self._topics.command(session, "+") in self._current
            case _:
                changed = False
        if changed and self._servers.member:
            self._settled.clear()
            self._changed.set()

    async def begin(self, client: MqttClient) -> None:
        """Subscribe on a new connection. Raises MqttError."""
        self._current = set()
        if self._servers.member:
            await self._adjust(client)
        else:
            await client.listen_to(self._topics.commands)

    async def follow(self, client: MqttClient) -> None:
        """Subscribe and unsubscribe as sessions come and go, until cancelled. Raises MqttError."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
            self._changed.clear()
            if self._servers.member:
                await self._adjust(client)

    async def settled(self, within_s: float) -> None:
        """Wait until the commands of all sessions are subscribed, but not longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._settled.wait()

    async def _adjust(self, client: MqttClient) -> None:
        while (wanted := self._wanted()) != self._current:
            new, old = sorted(wanted - self._current), sorted(self._current - wanted)
            if new:
                await client.listen_to(*new)
            if old:
                await client.ignore(*old)
            self._current = wanted
        self._settled.set()
        if (waiting := set(self._steering.waiting_ids())) != self._waiting:
            self._waiting = waiting
            self._on_waiting()

    def _wanted(self) -> set[str]:
        sessions = [*self._steering.session_ids(), *self._steering.waiting_ids()]
        names = {name for session in sessions for name in self._servers.names_of(session)}
        if MAIN in sessions:
            names.add(MAIN)  # also to say that it is ambiguous
        return {self._topics.command(name, "+") for name in names}
