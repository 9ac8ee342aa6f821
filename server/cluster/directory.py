"""The directory: members join through its port, and it tells them of each other. It stores nothing on disk.

After a restart its tables are full again once everybody has reported. It knows no sessions' content and
starts nothing; packets, commands and snapshots never pass it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from engine.errors import PsistreamError, Unavailable
from server.cluster.messages import (
    DIRECTORY_DOOR,
    REPORT_S,
    TO_DIRECTORY,
    Admitted,
    DrainHost,
    DrainWorker,
    GatewayReport,
    JoinGateway,
    JoinWorker,
    LeaveHost,
    PlacementReport,
    Roster,
    ScaleWorkers,
    StopDirectory,
    TakeBackHost,
    TakeBackWorker,
    Watch,
    WorkerReport,
)
from server.cluster.tables import Tables, for_members
from server.logs import about
from server.tasks import Tasks
from server.worker.wire.connection import Connection
from server.worker.wire.entrance import Entrance, refuse

log = logging.getLogger(__name__)

LOOK_S = 0.25  # so rosters are sent at most four times a second
MAX_STRANGERS, MAX_MEMBERS = 64, 1400
REPORT_BYTES = 1 << 20
MOST_UNREAD = 8  # rosters that wait for a member


class WorkerPlaces(Protocol):
    """What decides where workers run, if anything here does."""

    def report(self) -> PlacementReport: ...

    def scale(self, wanted: int) -> None:
        """Raises InvalidInput."""

    async def leave(self, host: str) -> None:
        """What goes wrong is in the next report."""

    async def down(self) -> None:
        """End what it has placed; what is left is in the next report."""


class Directory:
    """`key` is the cluster's. Give `entrance.door()` to `create_server`; `run` returns when it was told
    to end. `places` may be set before `run`."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.tables = Tables(clock)
        self.places: WorkerPlaces | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._members: dict[Connection, JoinWorker | JoinGateway | Watch | None] = {}  # None: not joined yet
        self._told: Roster | None = None
        self._told_s = clock()
        self._tasks = Tasks()
        self.entrance = Entrance(
            key, MAX_STRANGERS, self._admit, self._ended, self._tasks, door=DIRECTORY_DOOR, clock=clock
        )

    async def run(self) -> None:
        self._tasks.spawn(self._look(), "look")
        await self._over
        await self._tasks.close()
        for connection in list(self._members):
            connection.close()

    def end(self) -> None:
        """Idempotent."""
        if not self._over.done():
            self._over.set_result(None)

    async def _admit(self, connection: Connection) -> None:
        """A member has proved the key. Raises Unavailable."""
        if len(self._members) >= MAX_MEMBERS:
            raise Unavailable(f"the directory has {MAX_MEMBERS} members, which is the most")
        if not connection.ended:
            self._members[connection] = None
            connection.open(TO_DIRECTORY, partial(self._heard, connection), REPORT_BYTES)
            connection.send(Admitted())

    def _ended(self, connection: Connection, why: str | None) -> None:
        joined = self._members.pop(connection, None)
        self.tables.gone(connection)
        if self._over.done():  # it is this directory that leaves
            return
        if isinstance(joined, JoinWorker | JoinGateway):
            log.warning("%s has left%s", _named(joined), f": {why}" if why else "", extra=about(joined.name))
        if isinstance(joined, JoinGateway) and self._clock() - self._told_s >= LOOK_S:
            self.look()  # others wait for this to claim its sessions

    # ---- what members say ----

    def _heard(self, connection: Connection, message: Any) -> None:
        try:
            self._take(connection, message)
        except PsistreamError as error:
            refuse(connection, error)

    def _take(self, connection: Connection, message: Any) -> None:
        """Raises PsistreamError."""
        joined = self._members.get(connection)
        match message:
            case JoinWorker() | JoinGateway() | Watch() if joined is None:
                if not isinstance(message, Watch):
                    self.tables.join(connection, message)
                    log.warning("%s has joined", _named(message), extra=about(message.name))
                self._members[connection] = message
                self._tell({connection: message})
            case DrainHost(host) if isinstance(joined, Watch):
                self.tables.drain(host)
                log.warning("host %s: draining", host, extra=about(host))
            case TakeBackHost(host) if isinstance(joined, Watch):
                self.tables.take_back(host)
                log.warning("host %s: accepts sessions again", host, extra=about(host))
            case DrainWorker(worker) if isinstance(joined, Watch | JoinGateway):
                self.tables.drain_worker(worker)
                log.warning("worker %s: draining", worker, extra=about(worker))
            case TakeBackWorker(worker) if isinstance(joined, Watch | JoinGateway):
                self.tables.take_back_worker(worker)
                log.warning("worker %s: accepts sessions again", worker, extra=about(worker))
            case ScaleWorkers(wanted) if isinstance(joined, Watch):
                self._placement.scale(wanted)
                log.warning("wanted workers: %d", wanted)
            case LeaveHost(host) if isinstance(joined, Watch):
                self._tasks.spawn(self._placement.leave(host), f"leave {host}")
            case StopDirectory(keep_workers) if isinstance(joined, Watch):
                if self.places is None or keep_workers:
                    self.end()
                else:
                    self._tasks.spawn(self._down(self.places), "down")
            case WorkerReport() | GatewayReport():
                self.tables.report(connection, message)

    @property
    def _placement(self) -> WorkerPlaces:
        """Raises Unavailable."""
        if self.places is None:
            raise Unavailable("this directory places no workers: give `psistream cluster up` --workers")
        return self.places

    async def _down(self, places: WorkerPlaces) -> None:
        try:
            await places.down()
            self._tell({c: joined for c, joined in self._members.items() if isinstance(joined, Watch)})
        finally:
            self.end()

    # ---- what they are told ----

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """To be called four times a second."""
        for connection in self.tables.look():
            assert isinstance(connection, Connection)
            connection.abort("it has reported nothing for too long")
        roster, now_s = for_members(self.tables.roster()), self._clock()
        if roster != self._told or now_s - self._told_s >= REPORT_S:
            self._told, self._told_s = roster, now_s
            self._tell({c: joined for c, joined in self._members.items() if joined is not None})

    def _tell(self, members: dict[Connection, JoinWorker | JoinGateway | Watch]) -> None:
        full = self.tables.roster()
        known = for_members(full)
        workers = {worker.name: worker for worker in known.workers}
        if self.places is not None:
            full = replace(full, placement=self.places.report())
        for connection, joined in members.items():
            if len(connection.outbox) >= MOST_UNREAD:  # it gets the next one, once it reads again
                continue
            match joined:
                case Watch():
                    connection.send(full)
                case JoinGateway():
                    connection.send(replace(known, elsewhere=self.tables.elsewhere(connection)))
                case JoinWorker(name):  # there may be a thousand, and they need to know nobody else
                    own = tuple(workers[name] for name in [name] if name in workers)
                    connection.send(Roster(own, settled=known.settled))


def _named(joined: JoinWorker | JoinGateway) -> str:
    return f"{'worker' if isinstance(joined, JoinWorker) else 'gateway'} {joined.name} ({joined.url})"
