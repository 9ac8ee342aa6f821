"""The streams that this server pushes by WHIP: starts, retries, lists and ends them.

A push belongs to a session and ends with it. It keeps no address or token longer than that.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from engine.errors import Full, UnknownSession
from engine.types import SessionClosed
from server.config import ServerConfig, check_whip
from server.control.base import SessionEvent, Steering
from server.tasks import Tasks, first_of
from server.webrtc.adapter.addresses import Gatherer
from server.webrtc.fanout import Fanout
from server.webrtc.whip import PushFailed, WhipConnection

log = logging.getLogger(__name__)

MAX_PUSHES = 8
PAUSE_S, PAUSE_MAX_S = 1.0, 30.0
INTERNAL = "an internal error; the server's log has the details"
STEADY_S = 30.0  # after a connection of this length, the next failure is retried at once


@dataclass
class Push:
    id: str
    session: str
    url: str
    token: str | None = field(repr=False)
    state: Literal["connecting", "live", "retrying", "ended"] = "connecting"
    error: str = ""
    attempts: int = 0
    connection: WhipConnection | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def described(self) -> dict[str, Any]:
        """The push as sent to clients, without the token."""
        condition = self.connection.condition if self.connection and self.state == "live" else None
        return {
            "id": self.id,
            "session": self.session,
            "whip": self.url,
            "state": self.state,
            "error": self.error or None,
            "attempts": self.attempts,
            "kbps": condition.bitrate_bps // 1000 if condition else None,
        }


class Pushes:
    """`async with Pushes(…)`."""

    def __init__(
        self, config: ServerConfig, steering: Steering, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config, self._clock = config, clock
        self._gatherer = Gatherer(None, config.udp_ports, config.public_addresses, clock=clock)
        self._pushes: dict[str, Push] = {}
        self._tasks = Tasks()
        self._stop_listening = steering.listen(self._heard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        for push in list(self._pushes.values()):
            push.ended.set()
        await self._tasks.drain(3.0)
        await self._tasks.close()

    def start(self, session: str, fanout: Fanout, rates: Sequence[int], url: str, token: str | None) -> Push:
        """Raises InvalidInput, Full."""
        check_whip(url)
        if len(self._pushes) >= MAX_PUSHES:
            raise Full(f"this server pushes {MAX_PUSHES} streams already: end one first")
        push = Push(secrets.token_hex(6), session, url, token)
        self._pushes[push.id] = push
        self._tasks.spawn(self._run(push, fanout, rates), f"push-{push.id}")
        return push

    def of(self, session: str) -> list[Push]:
        return [push for push in self._pushes.values() if push.session == session]

    def stop(self, push_id: str, session: str) -> None:
        """Raises UnknownSession."""
        push = self._pushes.get(push_id)
        if push is None or push.session != session:
            raise UnknownSession("this session has no such push; GET …/push lists them", field="push")
        push.ended.set()

    def _heard(self, event: SessionEvent) -> None:
        if isinstance(event, SessionClosed):
            for push in self.of(event.session):
                push.ended.set()

    async def _run(self, push: Push, fanout: Fanout, rates: Sequence[int]) -> None:
        pause_s = PAUSE_S
        try:
            while not push.ended.is_set():
                push.attempts += 1
                started_s = self._clock()
                push.connection = WhipConnection(
                    fanout, rates, self._config.ice_servers, self._gatherer, self._clock
                )
                await self._attempt(push)
                if push.ended.is_set():
                    return
                push.state = "retrying"
                pause_s = PAUSE_S if self._clock() - started_s > STEADY_S else min(PAUSE_MAX_S, 2 * pause_s)
                await first_of(push_ended=push.ended.wait(), push_pause=asyncio.sleep(pause_s))
        finally:
            push.state = "ended"
            self._pushes.pop(push.id, None)

    async def _attempt(self, push: Push) -> None:
        connection = push.connection
        assert connection is not None

        def live() -> None:
            push.state, push.error = "live", ""

        async def run() -> None:
            try:
                await connection.run(push.url, push.token, live)
            except PushFailed as error:
                push.error = error.message
            except Exception:  # outermost: a bug must be seen, and the push tries again
                push.error = INTERNAL
                log.exception("session %s: push %s failed", push.session, push.id)

        try:
            await first_of(push_ended=push.ended.wait(), push_connection=run())
        finally:
            await connection.close(push.token)
