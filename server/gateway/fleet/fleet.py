"""The workers of one gateway: which one runs a session, and which one has room for another.

It sends what it is told to send and starts nothing by itself but the workers. It knows no clients.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.errors import InvalidInput, Unavailable
from engine.types import Capacity
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.worker.base import Order
from server.worker.messages import WorkerReady


class UnknownWorker(InvalidInput):
    code = "unknown_worker"


class LastWorker(InvalidInput):
    """Nobody could go on with its sessions."""

    code = "last_worker"


@dataclass(frozen=True)
class WorkerStatus:
    """`state`: running, draining, drained, unwell (it hangs or is unresponsive), starting or given_up."""

    id: str
    state: str
    fault: str | None
    sessions: int
    places: int
    capacity: Capacity | None


class Fleet:
    """At least one worker. All run the same model."""

    def __init__(self, workers: Sequence[Supervisor], sessions: Sessions) -> None:
        self._workers = {worker.name: worker for worker in workers}
        self._sessions = sessions
        sessions.workers = tuple(self._workers)

    def __iter__(self) -> Iterator[Supervisor]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    async def start(self) -> None:
        """The first one alone, so that the session `main` is there as early as possible. Raises the
        PsistreamError that stopped any of them."""
        await self.first.start()
        try:
            async with asyncio.TaskGroup() as group:
                for worker in list(self)[1:]:
                    group.create_task(worker.start())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def close(self) -> None:
        """Idempotent."""
        await asyncio.gather(*(worker.close() for worker in self))

    # ---- all of them ----

    @property
    def first(self) -> Supervisor:
        return next(iter(self))

    @property
    def ready(self) -> WorkerReady | None:
        """What the workers are, while one runs."""
        return next((worker.ready for worker in self if worker.ready is not None), None)

    @property
    def fault(self) -> str | None:
        """Why no worker runs, or why those that run are of no use now. None if one is fine."""
        faults = [worker.fault for worker in self]
        return None if None in faults else faults[0]

    @property
    def given_up(self) -> bool:
        """Whether no worker will run any more."""
        return all(worker.given_up for worker in self)

    @property
    def capacity(self) -> Capacity | None:
        """What the running workers reported of themselves, together; their mean load."""
        known = [worker.capacity for worker in self if worker.capacity is not None]
        if not known:
            return None
        load = sum(each.load for each in known) / len(known)
        return Capacity(sum(each.sessions for each in known), sum(each.open for each in known), load)

    @property
    def places(self) -> int:
        """How many sessions the running workers take."""
        return sum(worker.ready.max_sessions for worker in self if worker.ready is not None)

    # ---- one of them ----

    def named(self, name: str) -> Supervisor:
        """Raises UnknownWorker."""
        if name not in self._workers:
            known = ", ".join(self._workers)
            raise UnknownWorker(f"no worker is called {name[:40]!r}; there are {known}", field="worker")
        return self._workers[name]

    def of(self, session: GatewaySession) -> Supervisor:
        """The worker that runs it, or runs it again once it is back."""
        return self._workers[session.worker]

    def send(self, session: GatewaySession, command: Order) -> None:
        """Raises Unavailable."""
        self.of(session).send(command)

    def try_send(self, session: GatewaySession, command: Order) -> None:
        """For commands whose sender needs no answer: the next worker is told whatever this one misses."""
        with contextlib.suppress(Unavailable):
            self.send(session, command)

    def status(self, worker: Supervisor) -> WorkerStatus:
        sessions = len(self._sessions.of(worker.name))
        state = "running"
        if worker.given_up:
            state = "given_up"
        elif worker.ready is None:
            state = "starting"
        elif worker.fault is not None:
            state = "unwell"
        elif worker.draining:
            state = "draining" if sessions else "drained"
        places = worker.ready.max_sessions if worker.ready else 0
        return WorkerStatus(worker.name, state, worker.fault, sessions, places, worker.capacity)

    # ---- room ----

    def room(self, worker: Supervisor) -> int:
        """How many more sessions may be opened here; the worker itself may still refuse one."""
        if worker.ready is None:
            return 0
        return worker.ready.max_sessions - len(self._sessions.of(worker.name))

    def roomiest(self) -> list[Supervisor]:
        """Workers that sessions may be opened on, those with most room first."""
        open_to = [worker for worker in self if worker.takes and self.room(worker) > 0]
        return sorted(open_to, key=lambda worker: (-self.places_left(worker), -self.room(worker)))

    def places_left(self, worker: Supervisor) -> int:
        """How many more sessions it serves in real time, by what it reported and what runs there now."""
        if worker.capacity is None:
            return self.room(worker)
        awake = sum(not session.asleep for session in self._sessions.of(worker.name))
        return min(self.room(worker), worker.capacity.sessions - awake)

    def refuge(self, session: GatewaySession, *, crowded: bool = False) -> Supervisor | None:
        """Another worker that can go on with a session in real time, or (`crowded`) at all."""
        others = [worker for worker in self.roomiest() if worker.name != session.worker]
        fits = [worker for worker in others if crowded or self.places_left(worker) > 0]
        return fits[0] if fits else None
