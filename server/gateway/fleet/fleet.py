"""The workers of one gateway: which one runs a session, and which one can accept another session.

It starts and closes the workers and forwards commands to them. It knows no clients.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.errors import InvalidInput, ModelFilesError, Unavailable
from engine.types import Capacity
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.worker.base import Order
from server.worker.messages import WorkerReady


class UnknownWorker(InvalidInput):
    code = "unknown_worker"


class LastWorker(InvalidInput):
    """The worker cannot be drained, since no other one could continue its sessions."""

    code = "last_worker"


@dataclass(frozen=True)
class WorkerStatus:
    """`state` is one of running, draining, drained, unwell (hangs or is unresponsive), starting and
    given_up."""

    id: str
    state: str
    fault: str | None
    sessions: int
    places: int
    capacity: Capacity | None


class Fleet:
    """One worker or more, all with the same model."""

    def __init__(self, workers: Sequence[Supervisor], sessions: Sessions, *, patient: bool = False) -> None:
        self._workers = {worker.name: worker for worker in workers}
        self._sessions, self._patient = sessions, patient
        sessions.workers = tuple(self._workers)

    def __iter__(self) -> Iterator[Supervisor]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    async def start(self) -> None:
        """Start the first worker, so that session `main` opens as early as possible, then the others at once.
        Raises the PsistreamError of one that fails to start."""
        if self._patient:
            await self._start_some()
            return
        await self.first.start()
        try:
            async with asyncio.TaskGroup() as group:
                for worker in list(self)[1:]:
                    group.create_task(worker.start(), name=f"start-{worker.name}")
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _start_some(self) -> None:
        faults = await asyncio.gather(*(worker.start() for worker in self), return_exceptions=True)
        for worker, fault in zip(self, faults, strict=True):
            if fault is not None and (type(fault) is not Unavailable or all(faults)):
                raise fault
            if fault is not None:
                worker.try_again(str(fault))

    def check_model(self, worker: Supervisor) -> None:
        """Raises ModelFilesError if it runs another model than the others."""
        for other in self:
            ours, theirs = worker.ready, other.ready
            if ours is not None and theirs is not None and ours.fingerprint != theirs.fingerprint:
                raise ModelFilesError(
                    f"{worker.name} runs {ours.model} with other weights than {other.name}'s {theirs.model}: "
                    "give all workers the same model files"
                )

    async def close(self) -> None:
        """Idempotent."""
        await asyncio.gather(*(worker.close() for worker in self))

    # ---- all of them ----

    @property
    def first(self) -> Supervisor:
        return next(iter(self))

    @property
    def ready(self) -> WorkerReady | None:
        """The model's geometry and actions, as a running worker reports them. None while no worker runs."""
        return next((worker.ready for worker in self if worker.ready is not None), None)

    @property
    def fault(self) -> str | None:
        """Why no worker can serve sessions now. None if at least one can."""
        faults = [worker.fault for worker in self]
        return None if None in faults else faults[0]

    @property
    def given_up(self) -> bool:
        """Whether every worker has failed too often to be restarted again."""
        return all(worker.given_up for worker in self)

    @property
    def capacity(self) -> Capacity | None:
        """The capacity that running workers last reported: sessions summed, the load averaged."""
        known = [worker.capacity for worker in self if worker.capacity is not None]
        if not known:
            return None
        load = sum(each.load for each in known) / len(known)
        return Capacity(sum(each.sessions for each in known), sum(each.open for each in known), load)

    @property
    def places(self) -> int:
        """How many sessions the running workers accept in total."""
        return sum(worker.ready.max_sessions for worker in self if worker.ready is not None)

    # ---- one of them ----

    def named(self, name: str) -> Supervisor:
        """Raises UnknownWorker."""
        if name not in self._workers:
            known = ", ".join(self._workers)
            raise UnknownWorker(f"unknown worker {name[:40]!r}; the workers are {known}", field="worker")
        return self._workers[name]

    def of(self, session: GatewaySession) -> Supervisor:
        """The worker that runs it, or will run it again after a restart."""
        return self._workers[session.worker]

    def send(self, session: GatewaySession, command: Order) -> None:
        """Raises Unavailable."""
        self.of(session).send(command)

    def try_send(self, session: GatewaySession, command: Order) -> None:
        """Send a command that may be lost: the next worker receives the same information anyway."""
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

    # ---- capacity ----

    def places_left(self, worker: Supervisor) -> int:
        """How many more sessions may be opened on this worker, which may still refuse one itself."""
        if worker.ready is None:
            return 0
        return worker.ready.max_sessions - len(self._sessions.of(worker.name))

    def accepting(self) -> list[Supervisor]:
        """The workers that accept sessions, those with the most capacity left first."""
        workers = [worker for worker in self if worker.accepts and self.places_left(worker) > 0]
        return sorted(workers, key=lambda worker: (-self.capacity_left(worker), -self.places_left(worker)))

    def capacity_left(self, worker: Supervisor) -> int:
        """How many more sessions it can serve in real time, from its reported capacity and what it runs
        now."""
        if worker.capacity is None:
            return self.places_left(worker)
        awake = sum(not session.asleep for session in self._sessions.of(worker.name))
        return min(self.places_left(worker), worker.capacity.sessions - awake)

    def other_worker(self, session: GatewaySession, *, crowded: bool = False) -> Supervisor | None:
        """Another worker that can continue this session in real time, or, if `crowded`, at any speed."""
        others = [worker for worker in self.accepting() if worker.name != session.worker]
        fits = [worker for worker in others if crowded or self.capacity_left(worker) > 0]
        return fits[0] if fits else None
