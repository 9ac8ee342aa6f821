"""The gateway: owns the clients' side of every session and talks to the worker that runs them.

It implements Steering for all control channels. It doesn't know HTTP, SDP or MQTT, and of the worker no more
than that it takes commands and tells events. Everything here runs on the event loop and nothing blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from engine.errors import Forbidden, Full, PsistreamError, Unavailable, UnknownSession
from engine.types import (
    ByteArray,
    CloseSession,
    Command,
    Control,
    OpenSession,
    Receipt,
    RequestKeyframe,
    SessionClosed,
    SessionInfo,
    SetViewers,
    SubmitControl,
    WorkerReady,
)
from server.config import ServerConfig
from server.control.base import Listener
from server.hearing import Hearing
from server.listeners import Listeners
from server.metrics import Metrics
from server.session import Session, new_session
from server.supervisor import Supervisor
from server.tasks import Tasks
from server.upkeep import upkeep
from server.worker.base import MakeWorker, as_error

log = logging.getLogger(__name__)

MAIN = "main"
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
REOPEN_S = 0.5


class Gateway:
    """`async with Gateway(…)`: entering loads the worker's model and opens the session `main`."""

    def __init__(
        self,
        config: ServerConfig,
        make_worker: MakeWorker,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.metrics = config, metrics
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._listeners = Listeners()
        self._hearing = Hearing(
            self._sessions, self._listeners, metrics, clock, lambda: self.ready, self._end
        )
        self._supervisor = Supervisor(
            make_worker, self._hearing, self._open_main, self._lost, metrics, config.restart_limit, clock
        )
        self._tasks = Tasks()
        self._closing = False

    async def __aenter__(self) -> Self:
        try:
            await self._supervisor.start()
            self._tasks.spawn(
                upkeep(
                    self._sessions.values,
                    idle_s=self.config.session_idle_s,
                    clock=self._clock,
                    expire=self._expire,
                    remind=self._hearing.tell,
                ),
                "upkeep",
            )
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Idempotent."""
        self._closing = True
        for session in list(self._sessions.values()):
            self._end(session, "closed", "the server is stopping")
        await self._tasks.close()
        await self._supervisor.close()

    @property
    def ready(self) -> WorkerReady | None:
        """What the worker is, while one runs."""
        return self._supervisor.ready

    @property
    def fault(self) -> str | None:
        """Why none runs."""
        return self._supervisor.fault

    # ---- sessions ----

    async def open(
        self, prompt: str, seed: int | None = None, image: ByteArray | None = None, *, name: str | None = None
    ) -> Session:
        """Raises Full, InvalidInput, Unavailable."""
        if self.ready is None:
            raise Unavailable(self.fault or "the worker is not running; try again in a moment")
        if len(self._sessions) >= self.ready.max_sessions:
            self.metrics.refused.labels("sessions").inc()
            raise Full(f"all {self.ready.max_sessions} sessions are taken: try again later, or close one")
        seed = secrets.randbits(32) if seed is None else seed
        shared = name is not None and self.config.loopback
        session = self._enter(name or secrets.token_urlsafe(9), prompt, seed, shared=shared)
        command = OpenSession(session.id, prompt, seed, image)
        try:
            self._supervisor.send(command)
            async with asyncio.timeout(OPEN_TIMEOUT_S + self.ready.segment_ms / 1000):
                await session.opened
        except TimeoutError:
            self._try(CloseSession(session.id))
            self._end(session, "unavailable", "the worker did not answer")
            raise Unavailable("the worker did not answer; try again in a moment") from None
        except PsistreamError as error:
            self._end(session, error.code, error.message)
            raise
        return session

    def _enter(self, session_id: str, prompt: str, seed: int, *, shared: bool) -> Session:
        size = self.ready.state_bytes if self.ready else 0
        session = self._sessions[session_id] = new_session(
            SessionInfo(session_id, prompt, seed, False, None, 0, 0, 0, size),
            shared=shared,
            now_s=self._clock(),
            on_viewers=lambda viewers: self._viewers_changed(session_id, viewers),
            on_keyframe=lambda codec: self._try(RequestKeyframe(session_id, codec)),
        )
        self._hearing.count()
        return session

    async def close_session(self, session_id: str) -> None:
        """Returns when its place is free again. Raises UnknownSession, Forbidden for `main`."""
        session = self.session(session_id)
        if session.id == MAIN:
            raise Forbidden("main is everybody's and stays; reset it, or open a session of your own")
        self._try(CloseSession(session_id))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await session.closed.wait()
        except TimeoutError:
            self._end(session, "closed", "the session was closed")

    def _expire(self, session: Session) -> None:
        """Sessions that were forgotten must not keep others out."""
        if session.id != MAIN:
            self._try(CloseSession(session.id))
            self._end(session, "idle", "nobody watched or steered it any more")

    def session(self, session_id: str) -> Session:
        """Raises UnknownSession."""
        session = self._sessions.get(session_id)
        if session is None:
            raise UnknownSession("no session has this id; it may have ended", field="session")
        return session

    def stalled(self) -> list[str]:
        """Sessions that are watched and should move, but have not for long: the device hangs."""
        now_s = self._clock()
        return [s.id for s in self._sessions.values() if s.stalled(now_s)]

    # ---- Steering ----

    def session_ids(self) -> list[str]:
        return [s.id for s in self._sessions.values() if s.opened.done()]

    def info(self, session_id: str) -> SessionInfo:
        return self.session(session_id).current(self._clock())

    def submit(self, session_id: str, control: Control) -> Receipt:
        session = self.session(session_id)
        known = session.answers.get(control.id)
        if known is not None:
            return known
        try:
            self._supervisor.send(SubmitControl(session_id, control))
        except Unavailable as error:  # not remembered: the same id may be tried again
            return Receipt(session_id, control.id, "rejected", code=error.code, message=error.message)
        receipt = Receipt(session_id, control.id, "received")
        session.remember(receipt)
        session.received_s[control.id] = session.used_s = self._clock()
        return receipt

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.add(listener)

    # ---- what happens to sessions ----

    def _viewers_changed(self, session_id: str, viewers: dict[str, int]) -> None:
        self._try(SetViewers(session_id, viewers))
        if session := self._sessions.get(session_id):
            session.used_s = self._clock()
            if session.fanout.count == 1:  # the first one: generation begins again
                session.moved_s = max(session.moved_s, self._clock())
            self._hearing.tell(session)

    def _end(self, session: Session, code: str, message: str) -> None:
        """Whatever ended it. Its viewers hear why through the listeners."""
        if self._sessions.pop(session.id, None) is None:
            return
        if not session.opened.done():
            session.opened.set_exception(as_error(code, message))
            session.opened.exception()  # retrieved, should nobody wait any more
        session.closed.set()
        self._listeners.tell(SessionClosed(session.id, code, message))
        session.fanout.close()
        self._hearing.count()
        if session.id == MAIN and code not in ("closed", "worker_lost") and not self._closing:
            self._tasks.spawn(self._reopen_main(), "reopen-main")

    # ---- the worker's life ----

    async def _open_main(self) -> None:
        if MAIN not in self._sessions:
            await self.open(self.config.prompt, self.config.seed, name=MAIN)

    async def _reopen_main(self) -> None:
        """What one visitor broke must not be lost to all. The pause keeps an eternal failure cheap."""
        await asyncio.sleep(REOPEN_S)
        if self.ready is not None:
            await self._open_main()

    def _lost(self, message: str) -> None:
        for session in list(self._sessions.values()):
            self._end(session, "worker_lost", "the worker that made this video is gone; open it again")

    def _try(self, command: Command) -> None:
        """Where nobody can be told: a worker that is gone takes its sessions with it anyway."""
        with contextlib.suppress(Unavailable):
            self._supervisor.send(command)
