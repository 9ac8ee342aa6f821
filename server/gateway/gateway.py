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
from engine.types import Action, ByteArray, Capacity, Control, Receipt, SessionClosed, SessionInfo
from engine.wire.controls import check_action
from server.access.tokens import unguessable
from server.cluster.peers import MOVED
from server.config import ServerConfig
from server.control.base import Listener
from server.gateway.cluster.joined import RELEASED
from server.gateway.fleet.fleet import WorkerStatus
from server.gateway.fleet.spare import Spare
from server.gateway.fleet.supervisor import STOPPING, Supervisor
from server.gateway.guests.shown import ShownSessions
from server.gateway.opening import PromptText, opening
from server.gateway.parts import Parts
from server.gateway.session import MAIN, GatewaySession
from server.metrics import Metrics
from server.tasks import Tasks
from server.worker.base import Event, MakeWorker
from server.worker.messages.commands import CloseSession, SubmitControl
from server.worker.messages.events import WorkerReady

CLOSE_TIMEOUT_S = 5.0


class Gateway:
    """Entering `async with Gateway(…)` starts the workers, which load the model, and opens session `main`."""

    def __init__(
        self,
        config: ServerConfig,
        make_worker: MakeWorker | Sequence[MakeWorker],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.config, self.metrics, self._clock = config, metrics, clock
        makers = [make_worker] * config.workers if callable(make_worker) else make_worker
        workers = [self.supervise(f"w{n}", make) for n, make in enumerate(makers, 1)]
        self.parts = parts = Parts(config, workers, metrics, clock, wall_clock, self, self.supervise)
        self.sessions, self.fleet, self.encoders = parts.sessions, parts.fleet, parts.encoders
        self.guests, self.peers, self.joined = parts.guests, parts.peers, parts.joined
        self.exports, self.shown = parts.exports, ShownSessions(self, parts.sessions, parts.guests)
        self.leaving = False  # it is about to stop: whoever wants to watch is passed on to another gateway
        self._tasks = Tasks()
        if self.peers:
            self.sessions.listen(self.peers.heard)

    def supervise(self, name: str, make: MakeWorker) -> Supervisor:
        """Who is to keep a worker running."""
        # a worker elsewhere may come back at any time
        limit = sys.maxsize if self.config.placement == "remote" else self.config.restart_limit
        spare = Spare(make, self.config.keeps_spare)
        return Supervisor(name, make, self, spare, self.metrics, limit, self._clock)

    async def __aenter__(self) -> Self:
        try:
            await self.parts.outside.start()
            self._tasks.spawn(self.parts.outside.keep_name(), "keep name")
            await (self.fleet if self.joined is None else self.joined).start()
            await self._open_main()
            parts = self.parts
            for name, part in (("upkeep", parts.upkeep), ("guests", self.guests), ("save", parts.outside)):
                self._tasks.spawn(part.run(), name)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def end_all(self) -> None:
        """End all sessions while the channels that tell viewers are still open, or leave them to other
        gateways. Afterwards no session can be opened."""
        await self._tasks.close()
        await self.parts.migration.close()
        await self.parts.snapshots.close()
        await self.parts.outside.close()
        if self.joined is not None:
            await self.joined.release()
        for session in self.sessions:
            worker = self.fleet.get(session.worker)  # a session that is being opened may have none
            if worker is not None and worker.outlives_gateway:
                self.fleet.try_send(session, CloseSession(session.id))
            self.sessions.end(session, "closed", STOPPING)
        self.exports.fail(Unavailable(STOPPING))
        await self.guests.close(MOVED, RELEASED)  # they go on at their owners

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
        """Move this worker's sessions to other workers and open no new ones on it, in the whole cluster.
        Raises UnknownWorker, LastWorker, Unavailable."""
        found = self.fleet.named(worker)
        (self.joined or self.parts.migration).drain(found)
        return self.fleet.status(found)

    def take_back(self, worker: str) -> WorkerStatus:
        """End a drain. Raises UnknownWorker, HostDrained, Unavailable."""
        found = self.fleet.named(worker)
        (self.joined or self.parts.migration).resume(found)
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
        name = self.peers.new_id(unguessable(9))
        command = opening(
            prompt, seed, image, video=video, snapshot=snapshot, fork_of=fork_of, rewind_s=rewind_s, name=name
        )
        session = await self.parts.opener.open(command, client)
        self.tokens_changed(session)
        return session

    def tokens_changed(self, session: GatewaySession) -> None:
        """Tell the session's worker now, so that its tokens and links count at the other gateways at once."""
        if (worker := self.fleet.get(session.worker)) is not None:
            self.parts.records.keep(session, worker)

    async def close_session(self, session_id: str) -> None:
        """Return once the session's place is free again. Raises UnknownSession, and Forbidden for `main`."""
        session = self.session(session_id)
        if session.id == MAIN:
            raise Forbidden("main is shared and cannot be closed: reset it, or open a session of your own")
        session.closing = True
        if (worker := self.fleet.get(session.worker)) is not None:
            self.fleet.ending.close(session, worker)
        answers = not session.orphaned and self.fleet.of(session).health.unresponsive is None
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S if answers else 0):
                await session.closed.wait()
        except TimeoutError:  # perhaps it has moved to another worker meanwhile
            self.fleet.ending.closed(session)
            self.parts.opener.drop(session, "closed", "the session was closed")

    async def export(self, session_id: str, what: Literal["snapshot", "log"]) -> bytes:
        """See Exports.ask."""
        return await self.exports.ask(session_id, what)

    def session(self, session_id: str) -> GatewaySession:
        """Raises UnknownSession."""
        return self.sessions.find(session_id)

    def owner_of(self, session_id: str) -> str | None:
        """The other gateway that has this session; None if it is here, or nowhere. See Peers.owner_of."""
        return None if session_id in self.sessions else self.peers.owner_of(session_id)

    def overdue(self) -> list[str]:
        """Ids of sessions that are watched and not paused, but have shown nothing new for too long."""
        return self.parts.worker_care.overdue()

    # ---- Steering ----

    def session_ids(self) -> list[str]:
        return [session.id for session in self.sessions if session.opened.done()]

    def waiting_ids(self) -> list[str]:
        return sorted(self.sessions.waiting)

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
        if not session.orphaned:  # the next worker receives it together with the session
            self.fleet.send(session, SubmitControl(session_id, control))
        return session.received(control, self.sessions.now_s())

    def listen(self, listener: Listener, session: str | None = None) -> Callable[[], None]:
        return self.sessions.listen(listener, session)

    # ---- WorkerOwner ----

    def worker_event(self, worker: Supervisor, event: Event) -> None:
        if not self.parts.guest_news(worker, event):
            self.parts.events(worker, event)
        if isinstance(event, SessionClosed):
            self.parts.adoption.closed(worker, event)

    async def worker_up(self, worker: Supervisor) -> None:
        self.fleet.check_model(worker)
        self.encoders.check(worker)
        told: tuple[Event, ...] = (*worker.held, *worker.orphans)
        for event in told:
            self.worker_event(worker, event)
        await self.parts.adoption.answers_of(worker)
        self.sessions.places = self.fleet.places
        self.parts.failover.restore_all()
        if self.joined is not None:
            self.joined.serves()
        await self.parts.outside.worker_up()
        if not self.fleet.patient:  # otherwise another worker may still run it
            await self._open_main()

    async def _open_main(self) -> None:
        with suppress(Full):  # restored sessions go first; upkeep tries again
            await self.parts.opener.open_main()

    def worker_lost(self, worker: Supervisor) -> None:
        self.sessions.places = self.fleet.places
        error = Unavailable("the worker is being replaced; try again in a moment")
        self.exports.fail(error, {session.id for session in self.sessions.of(worker.name)})
        self.parts.adoption.worker_lost(worker)
        self.parts.failover.worker_lost(worker)
        self.parts.guest_news.worker_lost(worker)

    def worker_given_up(self, worker: Supervisor) -> None:
        self.parts.failover.give_up(worker)
