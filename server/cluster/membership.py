"""A member's end of its connection to the directory: it joins, reports each second and gets rosters.

It reconnects for ever. While the directory is away the last roster counts, and everything goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from engine.errors import Forbidden, InvalidInput, PsistreamError, Unavailable
from server.cluster.messages import (
    DIRECTORY_DOOR,
    REPORT_S,
    TO_MEMBERS,
    Admitted,
    JoinMessage,
    OperatorOrder,
    Report,
    Roster,
)
from server.tasks import Tasks
from server.worker.base import as_error
from server.worker.remote import WorkerAddress, connect, explained
from server.worker.wire import handshake
from server.worker.wire.connection import GREETING_S, Connection
from server.worker.wire.schema import GreetingRefused

log = logging.getLogger(__name__)

RETRY_S = 0.25, 1.0  # the first and the longest wait between two tries
SILENT_S = 6.0  # a directory that says nothing for this long is gone
ROSTER_BYTES = 4 << 20


def new_instance() -> str:
    """A random text by which the directory tells two processes of the same name apart."""
    return secrets.token_hex(8)


class Membership:
    """`join` makes the first message of each connection, `report` (if there is one) those that follow each
    second. `on_roster` is called on the event loop. `key` is the cluster's, `ca` a file of the authority for
    tls://, None for the system's. `close` is idempotent.

    `async with` starts it and waits for nothing; `joined` waits for the first roster."""

    def __init__(
        self,
        address: WorkerAddress,
        key: bytes,
        ca: Path | None,
        join: Callable[[], JoinMessage],
        on_roster: Callable[[Roster], None] = lambda roster: None,
        report: Callable[[], Report] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._key, self._ca = address, key, ca
        self._join, self._on_roster, self._report, self._clock = join, on_roster, report, clock
        self._connection: Connection | None = None
        self._tasks = Tasks()
        self._first: asyncio.Future[Roster] = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()  # of this connection: the first message, or its end
        self._ended = asyncio.Event()
        self._hurry = asyncio.Event()  # the next report is due, or the connection has ended
        self._refused: PsistreamError | None = None
        self.roster = Roster(settled=False)  # the last one; empty before the first
        self.fault: str | None = "the directory has not answered yet"

    def start(self) -> None:
        """Wait for nothing: see `joined`."""
        self._tasks.spawn(self._run(), "directory")

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._tasks.close()
        if self._connection is not None:
            self._connection.close()

    async def joined(self) -> Roster:
        """The first roster. Raises a PsistreamError that another try would not mend: another key or version,
        or a name that is taken; but waits for a directory that doesn't answer."""
        return await asyncio.shield(self._first)

    async def left(self) -> None:
        """Return when this connection has ended."""
        await self._ended.wait()

    def report_now(self) -> None:
        """Report at once: something has changed that others should know of."""
        self._hurry.set()

    def send(self, order: OperatorOrder) -> None:
        """Raises Unavailable."""
        if self._connection is None or self._connection.ended or self.fault is not None:
            raise Unavailable(self.fault or "the directory is not connected")
        self._connection.send(order)

    async def _run(self) -> None:
        tries = 0
        while True:
            try:
                await self._meet()
                tries = 0
                await self._stay()
                error = self._refused or self._named(Unavailable("the directory closed the connection"))
            except PsistreamError as fault:
                error = fault
            if not self._first.done() and _final(error):
                self._first.set_exception(error)
                self._first.exception()  # perhaps nobody asks
                return
            if self.fault != error.message:
                log.error("%s; trying again", error.message)
            self.fault = error.message
            await asyncio.sleep(min(RETRY_S[1], RETRY_S[0] * 2.0 ** min(tries, 8)))
            tries += 1

    async def _meet(self) -> None:
        """Connect and join. Raises PsistreamError."""
        self._ended.clear()
        self._news.clear()
        self._refused = None
        connection = Connection(lambda why: self._over(connection), self._clock)
        self._connection = connection
        try:
            await connect(self._address, self._ca, lambda: connection)
            said = handshake.hello(door=DIRECTORY_DOOR)
            connection.send(said)
            heard = await connection.receive()
            if isinstance(heard, GreetingRefused):
                raise _refused(heard)
            proof = handshake.prove(self._key, said, heard, DIRECTORY_DOOR)
        except PsistreamError as error:
            connection.abort()
            raise self._named(error) from None
        connection.open(TO_MEMBERS, self._heard, ROSTER_BYTES)
        connection.send(proof)
        try:
            async with asyncio.timeout(GREETING_S):
                await self._news.wait()
        except TimeoutError:
            connection.abort()
            raise self._named(Unavailable(f"the directory did not answer within {GREETING_S:g} s")) from None

    async def _stay(self) -> None:
        """Report until the connection ends."""
        connection = self._connection
        assert connection is not None
        while not connection.ended:
            if self._report is not None:
                connection.send(self._report())
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._hurry.wait()
            if self._clock() - connection.heard_s > SILENT_S:
                self._refused = self._named(Unavailable(f"the directory said nothing for {SILENT_S:g} s"))
                connection.abort()

    def _heard(self, message: Any) -> None:
        self._news.set()
        if isinstance(message, Admitted):
            assert self._connection is not None
            self._connection.send(self._join())
            return
        if isinstance(message, GreetingRefused):
            self._refused = self._named(_refused(message))
            return
        if self.fault is not None and self._first.done():
            log.warning("%s: the directory answers again", self._address)
        self.fault, self.roster = None, message
        self._on_roster(message)
        if not self._first.done():
            self._first.set_result(message)

    def _named(self, error: PsistreamError) -> PsistreamError:
        """With the directory's address."""
        error.message = explained(error, self._address)
        return error

    def _over(self, connection: Connection) -> None:
        if connection is self._connection:
            for waiting in (self._ended, self._news, self._hurry):
                waiting.set()


def _refused(message: GreetingRefused) -> PsistreamError:
    error = as_error(message.code, message.message)
    error.code = message.code
    return error


def _final(error: PsistreamError) -> bool:
    """Whether trying again would not help."""
    return isinstance(error, Forbidden | InvalidInput) or error.code in ("wrong_peer", "name_taken")
