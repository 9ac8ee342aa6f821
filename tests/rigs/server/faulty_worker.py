"""A worker on a port that has the key, opens whatever it is told to, and otherwise says what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from engine.types import OpenSession
from server.tasks import Tasks
from server.worker.base import Alive, RestoreSession
from server.worker.messages.events import WorkerReady
from server.worker.wire.connection import Connection
from server.worker.wire.entrance import Entrance
from server.worker.wire.schema import ORDERS, Welcome
from tests.rigs.server.fake_worker import READY, opened
from tests.rigs.server.port_rig import KEY


class FaultyWorker:
    """`orders` are those that came, on all `connections`."""

    def __init__(self, ready: WorkerReady) -> None:
        self._ready = ready
        self.connections: list[Connection] = []
        self.orders: list[Any] = []
        self._tasks = Tasks()
        self.entrance = Entrance(KEY, 8, self._admit, self._ended, self._tasks)

    async def _admit(self, connection: Connection) -> None:
        connection.open(ORDERS, lambda order: self._heard(connection, order), 1 << 26)
        connection.send(Welcome(self._ready))
        self.connections.append(connection)

    def _ended(self, connection: Connection, why: str | None) -> None:
        if connection in self.connections:
            self.connections.remove(connection)

    def _heard(self, connection: Connection, order: Any) -> None:
        self.orders.append(order)
        opening = order.opening if isinstance(order, RestoreSession) else order
        if isinstance(opening, OpenSession):
            connection.send(opened(opening))

    def say(self, data: bytes) -> None:
        """These bytes, as one message."""
        for connection in self.connections:
            connection.post(data)

    async def beat(self) -> None:
        while True:
            for connection in self.connections:
                connection.send(Alive())
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def faulty(ready: WorkerReady = READY, **changes: Any) -> AsyncIterator[tuple[FaultyWorker, int]]:
    """Such a worker, and its port on loopback. `changes` are what it says of itself instead."""
    worker = FaultyWorker(replace(ready, **changes))
    server = await asyncio.get_running_loop().create_server(worker.entrance.connection, "127.0.0.1", 0)
    beating = asyncio.create_task(worker.beat())
    try:
        yield worker, server.sockets[0].getsockname()[1]
    finally:
        beating.cancel()
        server.close()
        for connection in list(worker.connections):
            connection.abort()
