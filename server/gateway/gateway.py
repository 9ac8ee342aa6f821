"""The gateway: owns the client side of every session and talks to the workers that run the sessions.

It implements Steering for all control channels. It knows nothing of HTTP, SDP or MQTT. All it knows of
workers is that they take commands and report events. Everything here runs on the event loop; nothing blocks.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

from engine.errors import Forbidden, Full, Unavailable
from engine.types import Action, ByteArray, Capacity, Control, Receipt, SessionInfo
from engine.wire.controls import check_action
from server.config import ServerConfig
from server.control.base import Listener
from server.gateway.adoption import Adoption
from server.gateway.budget import Budgets
from server.gateway.events import Events
from server.gateway.exports import Exports
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet, WorkerStatus
from server.gateway.fleet.spare import Spare
from server.gateway.fleet.supervisor import STOPPING, Supervisor
from server.gateway.migration import Migration
from server.gateway.opening import Opener, PromptText, opening
from server.gateway.registry import Sessions
from server.gateway.session import MAIN, GatewaySession
from server.gateway.snapshots import Snapshots
from server.gateway.throttle import Throttle
from server.gateway.upkeep import Upkeep
from server.metrics import Metrics
from server.tasks import Tasks
from server.worker.base import Event, MakeWorker
from server.worker.messages import CloseSession, SubmitControl, WorkerReady

CLOSE_TIMEOUT_S = 5.0


class Gateway:
    """Entering `async with Gateway(…)` starts the workers, which load the model, and opens session `main`."""

    def __init__(
        self,
        config: ServerConfig,
        make_worker: MakeWorker | Sequence[MakeWorker],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.metrics = config, metrics
        budgets = Budgets(config.client_sessions, config.client_device_s, clock)
        self.sessions = Sessions(budgets, metrics, clock)
        makers = [make_worker] * config.workers if callable(make_worker) else make_worker
        remote = config.placement == "remote"
        limit = (
            sys.maxsize if remote else config.restart_limit
        )  # a worker elsewhere may come back at any time
        workers = [
            Supervisor(f"w{n}", make, self, Spare(make, config.keeps_spare), metrics, limit, clock)
            for n, make in enumerate(makers, 1)
        ]
        self.fleet = Fleet(workers, self.sessions, patient=remote)
        self.exports = Exports(self.sessions, self.fleet)
        self._failover = Failover(self.sessions, self.fleet, metrics, config.worker.runtime.idle_grace_s)
        throttle = Throttle(self.sessions, self.fleet, budgets)
        self._snapshots = Snapshots(self.sessions, self.exports, metrics, config.snapshot_every_s)
        self._opener = Opener(config, self.sessions, self.fleet, self.exports, budgets, metrics)
        self._adoption = Adoption(self.sessions, self._opener, self._failover, budgets)
        self._events = Events(
            self.sessions,
            self.exports,
            self._snapshots,
            throttle,
            self._failover,
            self._adoption,
            metrics,
        )
        self._upkeep = Upkeep(
            config,
            self.sessions,
            self.fleet,
            self.exports,
            self._snapshots,
            throttle,
            self._failover,
            self._adoption,
            self._opener,
        )
        self._migration = Migration(self.sessions, self.fleet, self.exports, self._failover, metrics)
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        try:
            await self.fleet.start()
            self._tasks.spawn(self._upkeep.run(), "upkeep")
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def end_all(self) -> None:
        """End all sessions while the channels that tell viewers are still open. Afterwards no session can be
        opened."""
        await self._tasks.close()
        await self._migration.close()
        await self._snapshots.close()
        for session in self.sessions:
            if self.fleet.of(session).outlives_gateway:
                self.fleet.try_send(session, CloseSession(session.id))
            self.sessions.end(session, "closed", STOPPING)
        self.exports.fail(Unavailable(STOPPING))

    async def close(self) -> None:
        """Idempotent."""
        await self.end_all()
        await self.fleet.close()

    @property
    def ready(self) -> WorkerReady | None:
        """The model's geometry and actions, as a running worker reports them. None while no worker runs."""
        return self.fleet.ready

    @property
    def fault(self) -> str | None:
        """Why no worker can serve sessions now. None if at least one can."""
        return self.fleet.fault

    @property
    def given_up(self) -> bool:
        """Whether every worker has failed too often to be restarted again."""
        return self.fleet.given_up

    @property
    def capacity(self) -> Capacity | None:
        """The capacity that the workers last reported, summed."""
        return self.fleet.capacity

    # ---- workers ----

    def drain(self, worker: str) -> WorkerStatus:
        """Move this worker's sessions to other workers and open no new ones on it. Raises UnknownWorker,
        LastWorker."""
        found = self.fleet.named(worker)
        self._migration.drain(found)
        return self.fleet.status(found)

    def take_back(self, worker: str) -> WorkerStatus:
        """End a drain. Raises UnknownWorker."""
        found = self.fleet.named(worker)
        self._migration.resume(found)
        return self.fleet.status(found)

    # ---- sessions ----

    async def open(
        self,
        prompt: PromptText | None = None,
        seed: int | None = None,
        image: ByteArray | None = None,
        *,
        video: ByteArray | None = None,
        snapshot: bytes | None = None,
        fork_of: str | None = None,
        rewind_s: float = 0.0,
        client: str | None = None,
    ) -> GatewaySession:
        """Open a session: a new video, or one that continues from a snapshot or another session's past (see
        OpenSession). It is charged to `client`. Raises Full, OverBudget, InvalidInput, Unavailable,
        UnknownSession."""
        if fork_of is not None:
            self.session(fork_of)
        command = opening(
            prompt, seed, image, video=video, snapshot=snapshot, fork_of=fork_of, rewind_s=rewind_s
        )
        session = await self._opener.open(command, client)
        self._adoption.record(session, self.fleet.of(session))
        return session

    async def close_session(self, session_id: str) -> None:
        """Return once the session's place is free again. Raises UnknownSession, and Forbidden for `main`."""
        session = self.session(session_id)
        if session.id == MAIN:
            raise Forbidden("main is shared and cannot be closed: reset it, or open a session of your own")
        session.closing = True
        self.fleet.try_send(session, CloseSession(session_id))
        answers = not session.orphaned and self.fleet.of(session).health.unresponsive is None
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S if answers else 0):
                await session.closed.wait()
        except TimeoutError:
            self.sessions.end(session, "closed", "the session was closed")

    async def export(self, session_id: str, what: Literal["snapshot", "log"]) -> bytes:
        """See Exports.ask."""
        return await self.exports.ask(session_id, what)

    def session(self, session_id: str) -> GatewaySession:
        """Raises UnknownSession."""
        return self.sessions.find(session_id)

    def overdue(self) -> list[str]:
        """Ids of sessions that are watched and not paused, but have shown nothing new for too long."""
        return self._upkeep.overdue()

    # ---- Steering ----

    def session_ids(self) -> list[str]:
        return [session.id for session in self.sessions if session.opened.done()]

    def info(self, session_id: str) -> SessionInfo:
        return self.session(session_id).current(self.sessions.now_s())

    def check(self, session_id: str, control: Control) -> None:
        """Raises InvalidInput for an action that the session's model does not have, and UnknownSession."""
        actions = self.session(session_id).info.actions
        if isinstance(control.body, Action) and actions:
            check_action(control.body.action, actions)

    def submit(self, session_id: str, control: Control) -> Receipt:
        session = self.session(session_id)
        known = session.answer_to(control)
        if known is not None:
            return known
        self.check(session_id, control)
        try:
            if not session.orphaned:  # the next worker receives it together with the session
                self.fleet.send(session, SubmitControl(session_id, control))
        except Unavailable as error:  # not remembered: the same id may be tried again
            return Receipt(session_id, control.id, "rejected", code=error.code, message=error.message)
        return session.received(control, self.sessions.now_s())

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self.sessions.listen(listener)

    # ---- WorkerOwner ----

    def worker_event(self, worker: Supervisor, event: Event) -> None:
        self._events(worker, event)

    async def worker_up(self, worker: Supervisor) -> None:
        self.fleet.check_model(worker)
        await self._adoption.worker_up(worker)
        self.sessions.places = self.fleet.places
        self._failover.restore_all()
        with suppress(Full):  # restored sessions go first; upkeep tries again
            await self._opener.open_main()

    def worker_lost(self, worker: Supervisor) -> None:
        self.sessions.places = self.fleet.places
        for session in self.sessions.of(worker.name):
            self.exports.fail(Unavailable("the worker is being replaced; try again in a moment"), session.id)
        self._failover.worker_lost(worker)

    def worker_given_up(self, worker: Supervisor) -> None:
        self._failover.give_up(worker)
