"""The seam between a steered session and the way to it: MQTT, HTTP or a WebRTC data channel."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, Protocol

from clients.steer.errors import SteerError

Kind = Literal["receipt", "state", "event", "status", "connection"]  # `status` is the server's
Hear = Callable[[Kind, dict[str, Any]], None]
Online = Callable[[bool], None]
Control = dict[str, Any]

CONNECT_TIMEOUT_S = 5.0
RETRY_S = 1.0
QUEUE = 256
CANCEL_AGAIN_S = 0.2


class Transport(Protocol):
    """One session of one server. `shown` is where it is, without secrets."""

    shown: str
    ask_again_s: float  # how long a control waits for its next receipt before it is sent again

    async def run(self, hear: Hear, online: Online) -> None:
        """Talk until cancelled, and reconnect. `hear` is told all that comes, the session's state first.
        Raises SteerError while there never was a connection, and when the session is gone for good."""
        ...

    def post(self, control: Control) -> None:
        """Send it as soon as there is a connection. Its `id` is set."""
        ...


class Queue:
    """Controls that wait for a connection; beyond its length the oldest is dropped."""

    def __init__(self, most: int = QUEUE) -> None:
        self._waiting: deque[Control] = deque(maxlen=most)
        self._some = asyncio.Event()

    def put(self, control: Control) -> None:
        self._waiting.append(control)
        self._some.set()

    def put_back(self, control: Control) -> None:
        if len(self._waiting) < (self._waiting.maxlen or 0):
            self._waiting.appendleft(control)
            self._some.set()

    def drain(self) -> list[Control]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    async def get(self) -> Control:
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        return self._waiting.popleft()


def check_session(session: str) -> None:
    """It becomes part of topics and URLs. Raises SteerError."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", session) is None:
        raise SteerError("session must be a session's id: letters, digits, dots, dashes, underscores")


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they are over. wait_for of Python 3.11, which aiomqtt uses, may swallow a
    cancellation that comes at the same time as its result. What the tasks raised is dropped."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    for task in tasks:
        task.cancelled() or task.exception()


async def first_of(*tasks: asyncio.Task[None]) -> None:
    """Wait for the first to end or fail, then end the others. Raises what it raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        with suppress(asyncio.CancelledError):
            await end(*tasks)
