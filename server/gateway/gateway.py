"""The gateway: owns the clients' side of every session and talks to the worker that runs them.

It implements Steering for all control channels. It doesn't know HTTP, SDP or MQTT, and of the worker no more
than that it takes commands and tells events. Everything here runs on the event loop and nothing blocks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

from engine.errors import Forbidden, Full, Unavailable, UnknownSession
from engine.types import ByteArray, Capacity, Control, OpenSession, Receipt, SessionClosed, SessionInfo
from server.config import ServerConfig
from server.control.base import Listener
from server.gateway.budget import Budgets, device_s
from server.gateway.events import Hearing
from server.gateway.failover import Revival
from server.gateway.listeners import Listeners
from server.gateway.opening import Opening, Words, beginning
from server.gateway.session import MAIN, Session, new_session
from server.gateway.supervisor import STOPPING, Supervisor
from server.gateway.upkeep import Upkeep
from server.metrics import Metrics
from server.tasks import Tasks
from server.worker.base import NOT_RUNNING, MakeWorker, as_error
from server.worker.messages import CloseSession, RequestKeyframe, SegmentStats, SubmitControl, WorkerReady

CLOSE_TIMEOUT_S, EXPORT_TIMEOUT_S = 5.0, 10.0


class Gateway:
    """`async with Gateway(…)`: entering loads the worker's model and opens the session `main`."""

    def __init__(
        self,
        config: ServerConfig,
        make_worker: MakeWorker,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.metrics, self._clock = config, metrics, clock
        self._sessions: dict[str, Session] = {}
        self._listeners = Listeners()
        self._budgets = Budgets(config.client_sessions, config.client_device_s, clock)
        self._hearing = Hearing(
            self._sessions, self._listeners, metrics, clock, lambda: self.ready, self._end, self._played
        )
        self._supervisor = Supervisor(
            make_worker,
            self._hearing,
            self._up,
            self._lost,
            lambda message: self._revival.give_up(),
            metrics,
            config.restart_limit,
            clock,
        )
        grace_s = config.worker.runtime.idle_grace_s
        self._revival = Revival(
            self._sessions, self._supervisor.send, self._hearing, self._end, metrics, clock, grace_s
        )
        self._opening = Opening(
            self._supervisor,
            self._budgets,
            metrics,
            lambda: len(self._sessions),
            lambda: self.fault,
            self._enter,
            self._end,
            self._drop,
        )
        self._upkeep = Upkeep(
            config,
            self._sessions,
            self._supervisor,
            self._hearing,
            self._budgets,
            metrics,
            clock,
            drop=self._drop,
            snapshot=lambda session_id: self.export(session_id, "snapshot"),
            revive=self._revival.revive_all,
            open_main=self._open_main,
            stuck=self._revival.stuck,
        )
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        try:
            await self._supervisor.start()
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
        """While there are channels still that tell of it; nothing is opened any more."""
        await self._tasks.close()
        for session in list(self._sessions.values()):
            self._end(session, "closed", STOPPING)
        self._hearing.exports.fail(Unavailable(STOPPING))

    async def close(self) -> None:
        """Idempotent."""
        await self.end_all()
        await self._supervisor.close()

    @property
    def ready(self) -> WorkerReady | None:
        """What the worker is, while one runs."""
        return self._supervisor.ready

    @property
    def fault(self) -> str | None:
        """Why none runs, or why the one that runs is of no use now."""
        return self._supervisor.fault or self._hearing.health.fault(self._clock())

    @property
    def given_up(self) -> bool:
        """Whether no worker will run any more."""
        return self._supervisor.given_up

    @property
    def capacity(self) -> Capacity | None:
        """What the worker told of itself last."""
        return self._hearing.capacity

    # ---- sessions ----

    async def open(
        self,
        prompt: Words | None = None,
        seed: int | None = None,
        image: ByteArray | None = None,
        *,
        snapshot: bytes | None = None,
        fork_of: str | None = None,
        rewind_s: float = 0.0,
        name: str | None = None,
        client: str | None = None,
    ) -> Session:
        """A new video, or one that goes on from a snapshot or from another session's past: see OpenSession.
        It is charged to `client`. Raises Full, InvalidInput, Unavailable, UnknownSession."""
        if fork_of is not None:
            self.session(fork_of)
        command = beginning(prompt, seed, image, snapshot, fork_of, rewind_s, name)
        return await self._opening(command, shared=name is not None and self.config.loopback, client=client)

    def _enter(self, command: OpenSession, *, shared: bool, client: str | None) -> Session:
        name, size = command.session, self.ready.state_bytes if self.ready else 0
        said = command.prompt if isinstance(command.prompt, str) else ""
        session = self._sessions[name] = new_session(
            SessionInfo(name, said, command.seed or 0, False, None, 0, 0, 0, size),
            command,
            shared=shared,
            client=client,
            now_s=self._clock(),
            on_viewers=lambda viewers: self._viewers_changed(name, viewers),
            on_keyframe=lambda codec: self._supervisor.try_send(RequestKeyframe(name, codec)),
        )
        self._hearing.count()
        return session

    async def close_session(self, session_id: str) -> None:
        """Returns when its place is free again. Raises UnknownSession, Forbidden for `main`."""
        session = self.session(session_id)
        if session.id == MAIN:
            raise Forbidden("main is everybody's and stays; reset it, or open a session of your own")
        session.closing = True
        self._supervisor.try_send(CloseSession(session_id))
        try:
            async with asyncio.timeout(0 if self._mute(session) else CLOSE_TIMEOUT_S):
                await session.closed.wait()
        except TimeoutError:
            self._end(session, "closed", "the session was closed")

    async def export(self, session_id: str, what: Literal["snapshot", "log"]) -> bytes:
        """A session as it is on the screen, as safetensors; or its controls, as JSON Lines. Raises
        UnknownSession, Unavailable, BackendError."""
        if self._mute(self.session(session_id)) or self.ready is None:
            raise Unavailable(self.fault or NOT_RUNNING)
        within_s = EXPORT_TIMEOUT_S + self.ready.segment_ms / 1000
        return await self._hearing.exports.ask(self._supervisor.send, session_id, what, within_s)

    def session(self, session_id: str) -> Session:
        """Raises UnknownSession."""
        session = self._sessions.get(session_id)
        if session is None:
            raise UnknownSession("no session has this id; it may have ended", field="session")
        return session

    def _mute(self, session: Session) -> bool:
        """Whether nobody would answer for it now."""
        return session.away or self._hearing.health.silence is not None

    def stalled(self) -> list[str]:
        """Sessions that are watched and should move, but have not for long."""
        return self._upkeep.stalled()

    # ---- Steering ----

    def session_ids(self) -> list[str]:
        return [s.id for s in self._sessions.values() if s.opened.done()]

    def info(self, session_id: str) -> SessionInfo:
        return self.session(session_id).current(self._clock())

    def submit(self, session_id: str, control: Control) -> Receipt:
        session = self.session(session_id)
        known = session.answer_to(control)
        if known is not None:
            return known
        try:
            if not session.away:  # the next worker gets it with the session
                self._supervisor.send(SubmitControl(session_id, control))
        except Unavailable as error:  # not remembered: the same id may be tried again
            return Receipt(session_id, control.id, "rejected", code=error.code, message=error.message)
        return session.received(control, self._clock())

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.add(listener)

    # ---- what happens to sessions ----

    def _viewers_changed(self, session_id: str, viewers: dict[str, int]) -> None:
        if session := self._sessions.get(session_id):
            if not session.away:
                self._supervisor.try_send(session.audience())
            session.watched(self._clock())
            self._hearing.tell(session)

    def _played(self, session: Session, stats: SegmentStats) -> None:
        self._budgets.spend(session.client, device_s(stats.timings_ms))
        self._upkeep.ration(session)
        self._revival.played(session, stats)

    def _end(self, session: Session, code: str, message: str) -> None:
        """Whatever ended it. Its viewers hear why through the listeners."""
        if self._sessions.get(session.id) is not session:
            return
        del self._sessions[session.id]
        self._budgets.leave(session.client)
        session.refused(as_error(code, message))
        session.closed.set()
        self._hearing.exports.fail(UnknownSession("the session has ended", field="session"), session.id)
        self._listeners.tell(SessionClosed(session.id, code, message))
        session.fanout.close()
        self._hearing.count()

    def _drop(self, session: Session, code: str, message: str) -> None:
        """End it here and there."""
        self._supervisor.try_send(CloseSession(session.id))
        self._end(session, code, message)

    # ---- the worker's life ----

    async def _up(self) -> None:
        """A worker is ready. Raises PsistreamError."""
        self._hearing.health.started(self._clock())
        self._revival.revive_all()
        with suppress(Full):  # the others were promised their places: upkeep tries again
            await self._open_main()

    async def _open_main(self) -> None:
        """What one visitor broke must not be lost to all. Raises PsistreamError."""
        if MAIN not in self._sessions:
            await self.open(self.config.prompt, self.config.seed, name=MAIN)

    def _lost(self, message: str) -> None:
        self._hearing.health.started(self._clock())
        self._hearing.exports.fail(Unavailable("the worker was replaced; try again in a moment"))
        self._revival.all_lost(self._supervisor.back_in_s, self._supervisor.lived_s)
