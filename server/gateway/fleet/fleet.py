"""The workers of one gateway: which one runs a session, and which one can accept another session.

It starts and closes the workers and forwards commands to them. It knows no clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.errors import InvalidInput, ModelFilesError, Unavailable
from engine.types import Capacity
from server.gateway.fleet.ending import Ending
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.tasks import Tasks
from server.worker.base import NOT_RUNNING, Order
from server.worker.messages.events import WorkerReady

NO_WORKER = "no worker has joined the cluster yet"
CLOSE_S = 2.0


class UnknownWorker(InvalidInput):
    code = "unknown_worker"


class LastWorker(InvalidInput):
    """The worker cannot be drained, since no other one could continue its sessions."""

    code = "last_worker"


@dataclass(frozen=True)
class WorkerStatus:
    """`state` is one of running, draining, drained, unwell (hangs or is unresponsive), starting, given_up and
    left (the cluster; its sessions wait for another worker). `sessions` are those of all gateways."""

    id: str
    state: str
    fault: str | None
    sessions: int
    places: int
    capacity: Capacity | None


class Fleet:
    """Its workers, all with the same model. With a directory they come and go, and there may be none.
    `patient`: they are elsewhere, and may come later."""

    def __init__(self, workers: Sequence[Supervisor], sessions: Sessions, *, patient: bool = False) -> None:
        self._workers = {worker.name: worker for worker in workers}
        self._sessions, self.patient = sessions, patient
        self.ending = Ending(self)
        self._tasks = Tasks()
        for name in self._workers:
            sessions.show_worker(name)

    def __iter__(self) -> Iterator[Supervisor]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    async def start(self) -> None:
        """Start the first worker, so that session `main` opens as early as possible, then the others at once.
        Raises the PsistreamError of one that fails to start."""
        if self.patient:
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
        """Raises ModelFilesError if it runs another model than the others, and InvalidInput if it is one of
        them, under another address."""
        for other in self:
            ours, theirs = worker.ready, other.ready
            if ours is not None and theirs is not None and ours.fingerprint != theirs.fingerprint:
                raise ModelFilesError(
                    f"{worker.name} runs {ours.model} with other weights than {other.name}'s {theirs.model}: "
                    "give all workers the same model files"
                )
            if other is worker or other.left or ours is None or theirs is None:
                continue
            if ours.instance and ours.instance == theirs.instance:
                raise InvalidInput(
                    f"{worker.name} is the same worker as {other.name}, under another address: name it once",
                    field="worker",
                )

    def add(self, worker: Supervisor) -> None:
        """A worker has joined; the one of this name that has left before is forgotten."""
        self._workers[worker.name] = worker
        self._sessions.show_worker(worker.name)

    def leave(self, worker: Supervisor) -> None:
        """A worker that does not run will not come back. It stays in the list while sessions name it."""
        worker.left = True
        self._tasks.spawn(worker.close(), f"close-{worker.name}")

    def forget_left(self) -> None:
        """Forget workers that have left and have no session any more."""
        left = [worker for worker in self if worker.left]
        handing = {session.handover.worker for session in self._sessions if session.handover} if left else ()
        for worker in left:
            if worker.name not in handing and not self._sessions.count(worker.name):
                del self._workers[worker.name]
                worker.forget()

    async def close(self) -> None:
        """Idempotent."""
        await self._tasks.drain(CLOSE_S)
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
        return None if None in faults else next(iter(faults), NO_WORKER)

    @property
    def given_up(self) -> bool:
        """Whether every worker has failed too often to be restarted again."""
        return bool(self._workers) and all(worker.given_up for worker in self)

    @property
    def capacity(self) -> Capacity | None:
        """The capacity that running workers last reported: sessions summed, the load averaged."""
        known = [worker.capacity for worker in self if worker.capacity is not None]
        if not known:
            return None
        load = sum(each.load for each in known) / len(known)
        total = [sum(getattr(each, name) for each in known) for name in ("sessions", "open", "taken")]
        return Capacity(total[0], total[1], load, total[2])

    @property
    def places(self) -> int:
        """How many sessions the running workers accept in total."""
        return sum(worker.ready.max_sessions for worker in self if worker.ready is not None)

    # ---- one of them ----

    def named(self, name: str) -> Supervisor:
        """Raises UnknownWorker."""
        if name not in self._workers:
            known = ", ".join(self._workers) or "not known yet"
            raise UnknownWorker(f"unknown worker {name[:40]!r}; the workers are {known}", field="worker")
        return self._workers[name]

    def get(self, name: str) -> Supervisor | None:
        return self._workers.get(name)

    def of(self, session: GatewaySession) -> Supervisor:
        """The worker that runs it, or will run it again after a restart."""
        return self._workers[session.worker]

    def send(self, session: GatewaySession, command: Order) -> None:
        """Raises Unavailable, also for a session that no worker has been asked to open yet."""
        worker = self.get(session.worker)
        if worker is None:
            raise Unavailable(NOT_RUNNING)
        worker.send(command)

    def try_send(self, session: GatewaySession, command: Order) -> None:
        """Send a command that may be lost: the next worker receives the same information anyway."""
        with contextlib.suppress(Unavailable):
            self.send(session, command)

    def status(self, worker: Supervisor) -> WorkerStatus:
        sessions = self._sessions.count(worker.name) + worker.others
        state = "running"
        if worker.given_up:
            state = "given_up"
        elif worker.left:
            state = "left"
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
        return worker.ready.max_sessions - self._sessions.count(worker.name) - worker.others

    def to_ask(self, near: str | None = None) -> list[Supervisor]:
        """The workers to ask to open a session: the one called `near`, if it has a place, then those with
        capacity left, most of it first. If none has any, the best of them is asked nevertheless, since what
        it reported may be out of date. Empty if all places are taken."""
        workers = [worker for worker in self if worker.accepts and self.places_left(worker) > 0]
        workers.sort(key=lambda worker: (-self.capacity_left(worker), -self.places_left(worker)))
        hopeful = [worker for worker in workers if self.capacity_left(worker) > 0] or workers[:1]
        return [w for w in workers if w.name == near] + [w for w in hopeful if w.name != near]

    def capacity_left(self, worker: Supervisor) -> int:
        """How many more sessions it accepts. The places that it reported as taken include what it reserves
        for sleeping sessions, and what other gateways run there; the sessions that are known here include
        those that it has not reported yet."""
        left, known, ready = self.places_left(worker), worker.capacity, worker.ready
        if known is None or ready is None:
            return left
        awake = self._sessions.awake(worker.name)
        asleep = self._sessions.count(worker.name) - awake
        return min(left, known.sessions - max(known.taken, awake + int(asleep * ready.idle_share)))

    def other_worker(self, than: str, *, crowded: bool = False) -> Supervisor | None:
        """The worker that can best continue a session of the worker `than`: in real time, or, if `crowded`,
        at any speed. What is reserved for sleeping sessions is there for this. None if there is no such
        worker."""
        best, most = None, (-sys.maxsize, 0)
        for worker in self:
            if worker.name == than or not worker.accepts:
                continue
            left = self.capacity_left(worker), self.places_left(worker)
            if left[1] > 0 and (crowded or self._keeps_up(worker)) and left > most:
                best, most = worker, left
        return best

    def playing(self, worker: Supervisor) -> int:
        """How many sessions use its device now. Of other gateways' sessions nobody knows here how many sleep,
        so their places count as they were reported."""
        known, ready, awake = worker.capacity, worker.ready, self._sessions.awake(worker.name)
        if known is None or ready is None or not worker.others:
            return awake
        own = int((self._sessions.count(worker.name) - awake) * ready.idle_share)
        return max(awake, known.taken - own)

    def _keeps_up(self, worker: Supervisor) -> bool:
        """Whether it can serve one more session in real time now."""
        return worker.capacity is None or worker.capacity.sessions > self.playing(worker)
