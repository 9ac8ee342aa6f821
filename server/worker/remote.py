"""The gateway's end of a connection to a worker, and workers on other hosts.

A worker that the gateway did not start is not ended by it either. If the connection is lost, another attempt
may find the worker and its sessions as they were.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import Forbidden, InvalidInput, Unavailable
from server.tasks import Tasks
from server.worker.base import (
    BEAT_S,
    NOT_RUNNING,
    TOO_MUCH,
    Alive,
    Event,
    OnEvent,
    Order,
    WorkerLost,
    as_error,
)
from server.worker.messages import WorkerReady
from server.worker.wire import handshake
from server.worker.wire.connection import Connection
from server.worker.wire.schema import EVENTS, GreetingRefused, Welcome

OUTBOX = 512  # orders that wait for the connection; when full, `send` refuses
CONNECT_S = 5.0
ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")

Connect = Callable[[Callable[[], Connection]], Awaitable[Any]]


@dataclass(frozen=True)
class WorkerAddress:
    """Where a worker listens, as tcp://HOST:PORT or tls://HOST:PORT."""

    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> WorkerAddress:
        """Raises InvalidInput."""
        found = ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found[3]) < 65536:
            raise InvalidInput(
                f"--worker must be process, thread, tcp://HOST:PORT or tls://HOST:PORT, not {text!r:.60}",
                field="worker",
            )
        return cls(found[2].strip("[]"), int(found[3]), found[1] == "tls")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'tcp'}://{host}:{self.port}"


class WorkerLink:
    """One connection, from the handshake to its end. `on_event` is called on the event loop. `on_end` is
    called once when the connection is gone, with the reason unless the worker ended it; not after `close`."""

    def __init__(self, on_event: OnEvent, on_end: Callable[[str | None], None]) -> None:
        self._on_event, self._on_end = on_event, on_end
        self._connection: Connection | None = None
        self._open = self._closing = False
        self._tasks = Tasks()

    async def meet(self, connect: Connect, key: bytes) -> Welcome:
        """Connect and wait until the worker has loaded its model. `connect` is asyncio's function with all
        arguments but the protocol. Raises PsistreamError."""
        connection = self._connection = Connection(self._ended)
        connection.open_when_welcome(EVENTS, self._heard)
        await connect(lambda: connection)
        said = handshake.hello()
        connection.send(said)
        connection.send(handshake.prove(key, said, _not_refused(await connection.receive())))
        welcome = _not_refused(await connection.receive(None))
        if not isinstance(welcome, Welcome):
            raise handshake.WrongPeer("what answered is no worker of psistream")
        self._open = True
        self._tasks.spawn(self._beat(connection), "beat")
        return welcome

    def send(self, order: Order) -> None:
        """Raises Unavailable."""
        if self._connection is None or not self._open or self._connection.ended:
            raise Unavailable(NOT_RUNNING)
        if len(self._connection.outbox) >= OUTBOX:
            raise Unavailable(TOO_MUCH)
        opening = getattr(order, "opening", order)
        source = getattr(opening, "fork_of", None)
        self._connection.send(order, getattr(opening, "session", ""), (source,) if source else ())

    def close(self) -> None:
        """Idempotent."""
        self._closing = True
        if self._connection is not None:
            self._connection.close()

    async def finish(self) -> None:
        await self._tasks.close()
        if self._connection is not None:
            self._connection.abort()

    async def _beat(self, connection: Connection) -> None:
        while not connection.ended:
            if not len(connection.outbox):
                connection.send(Alive())
            await asyncio.sleep(BEAT_S)

    def _heard(self, event: Event) -> None:
        if not self._closing:
            self._on_event(event)

    def _ended(self, why: str | None) -> None:
        self._open, was = False, self._open
        if was and not self._closing:
            self._on_end(why)


def _not_refused(heard: Any) -> Any:
    if isinstance(heard, GreetingRefused):
        raise as_error(heard.code, heard.message)
    return heard


class RemoteWorker:
    """A worker that listens on a port: see `psistream worker`. `orphans` are sessions that it ran for a
    gateway that is gone, with their epochs, at the time of the start."""

    outlives_gateway = True

    def __init__(self, address: WorkerAddress, key: bytes, ca: Path | None, on_event: OnEvent) -> None:
        self._address, self._key, self._ca = address, key, ca
        self._on_event = on_event
        self._link = WorkerLink(on_event, self._lost)
        self.orphans: dict[str, int] = {}

    async def start(self) -> WorkerReady:
        try:
            welcome = await self._link.meet(self._connect, self._key)
        except Forbidden as error:
            await self.close()
            raise Forbidden(f"{self._address}: {error.message}") from None
        except Unavailable as error:
            await self.close()
            raise type(error)(f"{self._address}: {error.message}") from None
        except BaseException:
            await self.close()
            raise
        self.orphans = {orphan.session: orphan.epoch for orphan in welcome.orphans}
        return welcome.ready

    def send(self, command: Order) -> None:
        self._link.send(command)

    async def close(self) -> None:
        self._link.close()
        await asyncio.sleep(0)
        await self._link.finish()

    async def _connect(self, make: Callable[[], Connection]) -> None:
        loop, context = asyncio.get_running_loop(), None
        if self._address.tls:
            context = ssl.create_default_context(cafile=None if self._ca is None else str(self._ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(make, self._address.host, self._address.port, ssl=context)
        except TimeoutError:
            raise Unavailable(f"no answer in {CONNECT_S:g} s") from None
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", None) or error.reason
            raise Unavailable(f"TLS failed: {why}") from None
        except OSError as error:
            raise Unavailable(f"no connection: {error.strerror or error}") from None

    def _lost(self, why: str | None) -> None:
        how = why or "the worker closed it"
        self._on_event(WorkerLost(f"the connection to {self._address} is lost: {how}"))
