"""Where visitors of a process come in: each proves that it has the key before it is let in, and only so many
may stand outside at once.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable

from engine.errors import PsistreamError
from server.tasks import Tasks
from server.worker.wire import handshake
from server.worker.wire.connection import Connection
from server.worker.wire.doorstep import Doorstep
from server.worker.wire.handshake import WORKER_DOOR, Door
from server.worker.wire.schema import GreetingRefused

log = logging.getLogger(__name__)

MAX_TEXT = 2000


class Entrance:
    """`admit` takes a visitor that has proved the key; until it returns, the visitor counts as one of the
    `most` strangers. A PsistreamError that it raises is told to the visitor. `on_end` hears of each
    connection that has ended."""

    def __init__(
        self,
        key: bytes,
        most: int,
        admit: Callable[[Connection], Awaitable[None]],
        on_end: Callable[[Connection, str | None], None],
        tasks: Tasks,
        *,
        door: Door = WORKER_DOOR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key, self._most, self._door, self._clock = key, most, door, clock
        self._admit, self._on_end, self._tasks = admit, on_end, tasks
        self.strangers = 0

    def door(self, tls: ssl.SSLContext | None = None) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of each visitor of a port; give TLS to this, and not to `create_server`."""
        return self.connection if tls is None else lambda: Doorstep(self.connection(), tls, self._tasks)

    def connection(self) -> Connection:
        """For a visitor that has just connected."""
        connection = Connection(lambda why: self._on_end(connection, why), self._clock)
        if self.strangers >= self._most:
            asyncio.get_running_loop().call_soon(connection.abort)
        else:
            self.strangers += 1
            self._tasks.spawn(self._greet(connection), "greet")
        return connection

    async def _greet(self, connection: Connection) -> None:
        try:
            answer, expected = handshake.challenge(self._key, await connection.receive(), self._door)
            connection.send(answer)
            handshake.check(expected, await connection.receive(), self._door)
            await self._admit(connection)
        except PsistreamError as error:
            if not connection.ended:
                refuse(connection, error)
        finally:
            self.strangers -= 1


def refuse(connection: Connection, error: PsistreamError, *, quietly: bool = False) -> None:
    """Say why, and hang up. `quietly`: somebody else reports it."""
    if not quietly:
        log.warning("%s was refused: %s", connection.peer, error.message)
    connection.send(GreetingRefused(error.code, error.message[:MAX_TEXT]))
    connection.close()
