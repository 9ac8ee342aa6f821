"""The interface between a steered session and its connection: MQTT, HTTP or a WebRTC data channel."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
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


class Disconnected(Exception):
    """There is no connection, or it ended; the message says why."""


class Transport(Protocol):
    """One session of one server. `shown` is where it is, without secrets."""

    shown: str
    ask_again_s: float  # how long a control waits for its next receipt before it is sent again

    async def converse(self, hear: Hear, connected: Callable[[], None]) -> None:
        """Connect, call `connected`, and talk until the connection ends. `hear` is told all that comes, the
        session's state first. Raises Disconnected, and SteerError where another attempt would not help."""
        ...

    def post(self, control: Control) -> None:
        """Send it as soon as there is a connection. Its `id` is set."""
        ...


async def stay_connected(transport: Transport, hear: Hear, online: Online) -> None:
    """Converse until cancelled, and reconnect. Raises SteerError if there never was a connection, or when the
    session is gone for good."""
    ever = False

    def connected() -> None:
        nonlocal ever
        ever = True
        online(True)

    while True:
        try:
            await transport.converse(hear, connected)
        except Disconnected as error:
            if not ever:
                raise SteerError(str(error)) from None
        online(False)
        await asyncio.sleep(RETRY_S)


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

    async def send_all(self, send: Callable[[Control], Awaitable[None]]) -> None:
        """Send each control as it comes, until that fails. The one that failed is sent again on the next
        connection."""
        while True:
            control = await self.get()
            try:
                await send(control)
            except BaseException:
                self.put_back(control)
                raise


def check_session(session: str) -> None:
    """It becomes part of topics and URLs. Raises SteerError."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", session) is None:
        raise SteerError("session must be a session's id: letters, digits, dots, dashes, underscores")


async def end(*tasks: asyncio.Task[None]) -> list[BaseException]:
    """Cancel tasks until they are over, and return what they raised. wait_for of Python 3.11, which aiomqtt
    uses, may swallow a cancellation that comes at the same time as its result."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    return [error for task in tasks if (error := error_of(task)) is not None]


def error_of(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


async def first_of(*ends: type[Exception], **works: Coroutine[Any, Any, None]) -> None:
    """Run these, each in a task of its name, until the first ends or fails; then end the others.

    `ends` are the errors by which a connection ends, besides Disconnected. Raises the first one's. Any other
    error goes before them and before a cancellation, whichever task it comes from, so that none is lost."""
    tasks = [asyncio.create_task(work, name=f"steer {name}") for name, work in works.items()]
    done: set[asyncio.Task[None]] = set()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        with suppress(asyncio.CancelledError):
            await end(*tasks)
        errors = [error for task in tasks if (error := error_of(task)) is not None]
        faults = [error for error in errors if not isinstance(error, (Disconnected, *ends))]
        for error in faults[1:]:
            faults[0].add_note(f"at the same time: {error!r}")
        if faults:
            raise faults[0]
    for task in done:
        task.result()
