"""The gateway's end of a connection to a worker, and workers on other hosts.

A worker that the gateway did not start is not ended by it either. If the connection is lost, another attempt
may find the worker and its sessions as they were.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import Forbidden, InvalidInput, PsistreamError, Unavailable
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
from server.worker.messages.events import WorkerReady
from server.worker.messages.holding import Fenced, Orphaned
from server.worker.wire import handshake
from server.worker.wire.connection import CLOSED, GREETING_S, Connection
from server.worker.wire.event_checks import check_event, check_ready
from server.worker.wire.schema import EVENTS, GreetingRefused, Welcome

log = logging.getLogger(__name__)

WELCOME_BYTES = 1 << 20
OUTBOX = 512  # orders that wait for the connection; when full, `send` refuses
CONNECT_S = 5.0
HOST_AND_PORT = r"(\[[0-9a-fA-F:.]+(?:%[A-Za-z0-9._-]+)?\]|[A-Za-z0-9._-]+):([0-9]{1,5})"
ADDRESS = re.compile("(tcp|tls)://" + HOST_AND_PORT)

Connect = Callable[[Callable[[], Connection]], Awaitable[Any]]


@dataclass(frozen=True)
class WorkerAddress:
    """Where a worker or a directory listens, as tcp://HOST:PORT or tls://HOST:PORT."""

    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, text: str, option: str = "--worker") -> WorkerAddress:
        """Raises InvalidInput, which names the option."""
        found = ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found[3]) < 65536:
            others = "process, thread, " if option == "--worker" else ""
            raise InvalidInput(
                f"{option} must be {others}tcp://HOST:PORT or tls://HOST:PORT, not {text!r:.60}",
                field=option.strip("-"),
            )
        return cls(found[2].strip("[]"), int(found[3]), found[1] == "tls")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'tcp'}://{host}:{self.port}"


class WorkerLink:
    """One connection, from the handshake to its end. `on_event` is called on the event loop. `on_end` is
    called once when the connection is gone, with the reason unless the worker ended it; not after `close`."""

    def __init__(
        self,
        on_event: OnEvent,
        on_end: Callable[[str | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_event, self._on_end, self._clock = on_event, on_end, clock
        self._connection: Connection | None = None
        self._open = self._closing = False
        self._tasks = Tasks()

    async def meet(self, connect: Connect, key: bytes, within_s: float = GREETING_S) -> Welcome:
        """Connect and wait until the worker has loaded its model; its first word must come in `within_s`.
        `connect` is asyncio's function with all arguments but the protocol. Raises PsistreamError."""
        connection = self._connection = Connection(self._ended, self._clock)
        connection.open_when_welcome(EVENTS, self._heard)
        await connect(lambda: connection)
        said = handshake.hello()
        connection.send(said)
        connection.send(handshake.prove(key, said, _not_refused(await connection.receive(within_s))))
        connection.trust(WELCOME_BYTES)
        welcome = _not_refused(await connection.receive(None))
        if not isinstance(welcome, Welcome):
            raise handshake.WrongPeer("what answered is no worker of psistream")
        _check_welcome(welcome)
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
        if self._closing:
            return
        try:
            check_event(event)
        except InvalidInput as error:
            peer = self._connection.peer if self._connection is not None else "a worker"
            kind = type(event).__name__
            log.warning("%s reported something that is ignored: %s: %s", peer, kind, error.message)
            return
        self._on_event(event)

    def _ended(self, why: str | None) -> None:
        self._open, was = False, self._open
        if was and not self._closing:
            self._on_end(why)


async def connect(address: WorkerAddress, ca: Path | None, make: Callable[[], Connection]) -> None:
    """Raises Unavailable."""
    loop, context = asyncio.get_running_loop(), None
    if address.tls:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        async with asyncio.timeout(CONNECT_S):
            await loop.create_connection(make, address.host, address.port, ssl=context)
    except TimeoutError:
        raise Unavailable(f"no answer in {CONNECT_S:g} s") from None
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", None) or error.reason
        raise Unavailable(f"TLS failed: {why}") from None
    except OSError as error:
        known = error.errno is not None and error.errno > 0
        why = os.strerror(error.errno or 0) if known else error.strerror
        if address.tls and isinstance(error, ConnectionError) and not why:
            why = "it was closed before TLS had begun; if it listens without a certificate, write tcp://"
        raise Unavailable(f"no connection: {why or error or type(error).__name__}") from None


def explained(error: PsistreamError, address: WorkerAddress) -> str:
    """What went wrong in a greeting, with the address and perhaps the fix."""
    closed = error.message == CLOSED and not address.tls
    return f"{address}: {error.message}{'; if it has a certificate, write tls://' if closed else ''}"


def _check_welcome(welcome: Welcome) -> None:
    """Raises WrongPeer."""
    try:
        check_ready(welcome.ready)
        told: tuple[Event, ...] = (*welcome.orphans, *welcome.held)
        for event in told:
            check_event(event)
    except InvalidInput as error:
        raise handshake.WrongPeer(f"the worker has a fault: {error.message}") from None


def _not_refused(heard: Any) -> Any:
    if isinstance(heard, GreetingRefused):
        raise as_error(heard.code, heard.message)
    return heard


class RemoteWorker:
    """A worker that listens on a port: see `psistream worker`. At the time of the start, `orphans` are
    sessions that it ran for a gateway that is gone, and `held` those of other gateways."""

    outlives_gateway = True

    def __init__(
        self,
        address: WorkerAddress,
        key: bytes,
        ca: Path | None,
        on_event: OnEvent,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._key, self._ca = address, key, ca
        self._on_event = on_event
        self._link = WorkerLink(on_event, self._lost, clock)
        self.orphans: tuple[Orphaned, ...] = ()
        self.held: tuple[Fenced, ...] = ()

    async def start(self) -> WorkerReady:
        try:
            welcome = await self._link.meet(self._connect, self._key)
        except Forbidden as error:
            await self.close()
            raise Forbidden(f"{self._address}: {error.message}") from None
        except Unavailable as error:
            await self.close()
            raise type(error)(explained(error, self._address)) from None
        except BaseException:
            await self.close()
            raise
        self.orphans, self.held = welcome.orphans, welcome.held
        return welcome.ready

    def send(self, command: Order) -> None:
        self._link.send(command)

    async def close(self) -> None:
        self._link.close()
        await asyncio.sleep(0)
        await self._link.finish()

    async def _connect(self, make: Callable[[], Connection]) -> None:
        await connect(self._address, self._ca, make)

    def _lost(self, why: str | None) -> None:
        how = why or "the worker closed it"
        self._on_event(WorkerLost(f"the connection to {self._address} is lost: {how}"))
