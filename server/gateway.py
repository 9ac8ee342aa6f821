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

from engine.errors import Full, PsistreamError, Unavailable, UnknownSession
from engine.types import (
    ByteArray,
    CloseSession,
    Command,
    Control,
    OpenSession,
    Packet,
    Receipt,
    RequestKeyframe,
    SegmentStats,
    SessionClosed,
    SessionInfo,
    SetViewers,
    SubmitControl,
    WorkerFailed,
    WorkerReady,
)
from server.config import ServerConfig
from server.control.base import Listener, SessionEvent
from server.media.fanout import Fanout
from server.metrics import Metrics
from server.session import Session
from server.tasks import Tasks
from server.worker.base import Applied, Event, MakeWorker, Worker, WorkerLost, as_error

log = logging.getLogger(__name__)

MAIN = "main"
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
STALLED_S = 10.0
REOPEN_S = 0.5
RESTART_FIRST_S, RESTART_MOST_S = 0.1, 5.0
HEALTHY_S = 30.0  # a worker that lived so long starts the count of restarts anew


def restart_delay_s(attempt: int) -> float:
    """How long to wait before restart number `attempt` (from 0) in a row."""
    return min(RESTART_MOST_S, RESTART_FIRST_S * 2.0**attempt)


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
        self.ready: WorkerReady | None = None
        self.fault: str | None = "the model is being loaded"  # why the server is not ready
        self._make_worker, self._clock = make_worker, clock
        self._worker: Worker | None = None
        self._sessions: dict[str, Session] = {}
        self._listeners: list[Listener] = []
        self._tasks = Tasks()
        self._closing = False
        self._restarts, self._restarting = 0, False
        self._started_s = 0.0

    async def __aenter__(self) -> Self:
        try:
            await self._start_worker()
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
        self.fault = "the server is stopping"
        for session in list(self._sessions.values()):
            self._end(session, "closed", "the server is stopping")
        await self._tasks.close()
        if self._worker is not None:
            await self._worker.close()

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
        session = self._enter(name or secrets.token_urlsafe(9), prompt, seed, is_main=name is not None)
        command = OpenSession(session.id, prompt, session.info.seed, image)
        try:
            self._send(command)
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await session.opened
        except TimeoutError:
            self._end(session, "unavailable", "the worker did not answer")
            raise Unavailable("the worker did not answer; try again in a moment") from None
        except PsistreamError as error:
            self._end(session, error.code, error.message)
            raise
        return session

    def _enter(self, session_id: str, prompt: str, seed: int | None, *, is_main: bool) -> Session:
        shared = is_main and self.config.loopback
        seed = secrets.randbits(32) if seed is None else seed
        fanout = Fanout(
            on_change=lambda viewers: self._viewers_changed(session_id, viewers),
            on_keyframe=lambda codec: self._try(RequestKeyframe(session_id, codec)),
        )
        assert self.ready is not None
        session = self._sessions[session_id] = Session(
            id=session_id,
            token=None if shared else secrets.token_urlsafe(24),
            view_token=None if shared else secrets.token_urlsafe(24),
            fanout=fanout,
            info=SessionInfo(session_id, prompt, seed, False, None, 0, 0, 0, self.ready.state_bytes),
            opened=asyncio.get_running_loop().create_future(),
        )
        self._count()
        return session

    async def close_session(self, session_id: str) -> None:
        """Returns when its place is free again. Raises UnknownSession."""
        session = self.session(session_id)
        self._try(CloseSession(session_id))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await session.closed.wait()
        except TimeoutError:
            self._end(session, "closed", "the session was closed")

    def session(self, session_id: str) -> Session:
        """Raises UnknownSession."""
        session = self._sessions.get(session_id)
        if session is None:
            raise UnknownSession("no session has this id; it may have ended", field="session")
        return session

    def stalled(self) -> list[str]:
        """Sessions that are watched and should move, but have not for long: the device hangs."""
        now_s = self._clock()
        return [
            s.id
            for s in self._sessions.values()
            if s.fanout.count and not s.info.paused and now_s - s.moved_s > STALLED_S
        ]

    # ---- Steering ----

    def session_ids(self) -> list[str]:
        return [s.id for s in self._sessions.values() if s.opened.done()]

    def info(self, session_id: str) -> SessionInfo:
        return self.session(session_id).current()

    def submit(self, session_id: str, control: Control) -> Receipt:
        session = self.session(session_id)
        known = session.answers.get(control.id)
        if known is not None:
            return known
        try:
            self._send(SubmitControl(session_id, control))
        except Unavailable as error:  # not remembered: the same id may be tried again
            return Receipt(session_id, control.id, "rejected", code=error.code, message=error.message)
        receipt = Receipt(session_id, control.id, "received")
        session.remember(receipt)
        session.received_s[control.id] = self._clock()
        return receipt

    def listen(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    def _notify(self, event: SessionEvent) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:  # one channel's fault is not the others'
                log.exception("a listener failed on %s", type(event).__name__)

    # ---- from the worker ----

    def _heard(self, event: Event) -> None:
        match event:
            case WorkerLost(message):
                self._lost(message)
            case WorkerReady() | WorkerFailed():
                pass
            case Applied(receipt, pts_90k):
                self._receipt(receipt, pts_90k)
            case Receipt():
                self._receipt(event, None)
            case SessionInfo():
                self._told(event)
            case SessionClosed(session, code, message):
                if session in self._sessions:
                    self._end(self._sessions[session], code, message)
            case SegmentStats():
                self._played(event)
            case Packet():
                self.metrics.encoded.labels(event.codec).inc()
                if session_ := self._sessions.get(event.session):
                    self.metrics.sent.inc(session_.fanout.push(event))

    def _receipt(self, receipt: Receipt, pts_90k: int | None) -> None:
        session = self._sessions.get(receipt.session)
        if session is None:
            return
        session.remember(receipt)
        if pts_90k is not None and receipt.frame is not None:
            session.remember_time(receipt.frame, pts_90k)
        since_s = session.received_s.pop(receipt.id, None)
        self.metrics.receipt(receipt, None if since_s is None else self._clock() - since_s)
        self._notify(receipt)

    def _told(self, info: SessionInfo) -> None:
        session = self._sessions.get(info.id)
        if session is None:
            return
        session.info, session.moved_s = info, self._clock()
        if not session.opened.done():
            session.opened.set_result(None)
        self._notify(session.current())

    def _played(self, stats: SegmentStats) -> None:
        session = self._sessions.get(stats.session)
        if session is None:
            return
        before = session.stats
        late = stats.late_total - (before.late_total if before else 0)
        dropped = stats.dropped_frames_total - (before.dropped_frames_total if before else 0)
        self.metrics.segment(stats, late, dropped)
        session.stats, session.moved_s = stats, self._clock()
        self._notify(stats)

    def _viewers_changed(self, session_id: str, viewers: dict[str, int]) -> None:
        self._try(SetViewers(session_id, viewers))
        if session := self._sessions.get(session_id):
            if session.fanout.count == 1:  # the first one: generation begins again
                session.moved_s = self._clock()
            self._notify(session.current())

    def _end(self, session: Session, code: str, message: str) -> None:
        """Whatever ended it. Its viewers hear why through the listeners."""
        if self._sessions.pop(session.id, None) is None:
            return
        if not session.opened.done():
            session.opened.set_exception(as_error(code, message))
            session.opened.exception()  # retrieved, should nobody wait any more
        session.closed.set()
        self._notify(SessionClosed(session.id, code, message))
        session.fanout.close()
        self._count()
        if session.id == MAIN and code not in ("closed", "worker_lost") and not self._closing:
            self._tasks.spawn(self._reopen_main(), "reopen-main")

    # ---- the worker's life ----

    async def _start_worker(self) -> None:
        self._worker = self._make_worker(self._heard)
        self.ready = await self._worker.start()
        self._started_s = self._clock()
        self.fault = None
        self.metrics.worker(self.ready)
        self._count()
        await self._open_main()

    async def _open_main(self) -> None:
        if MAIN not in self._sessions:
            await self.open(self.config.prompt, self.config.seed, name=MAIN)

    async def _reopen_main(self) -> None:
        """What one visitor broke must not be lost to all. The pause keeps an eternal failure cheap."""
        await asyncio.sleep(REOPEN_S)
        if self.ready is not None:
            await self._open_main()

    def _lost(self, message: str) -> None:
        log.error("%s; its sessions are lost", message)
        self.ready, self.fault = None, message
        self.metrics.worker_up.set(0)
        for session in list(self._sessions.values()):
            self._end(session, "worker_lost", "the worker that made this video is gone; open it again")
        if self._clock() - self._started_s > HEALTHY_S:
            self._restarts = 0
        if not self._closing and not self._restarting:
            self._restarting = True
            self._tasks.spawn(self._restart(), "restart-worker")

    async def _restart(self) -> None:
        try:
            await self._try_restarts()
        finally:
            self._restarting = False

    async def _try_restarts(self) -> None:
        while self._restarts < self.config.restart_limit:
            await asyncio.sleep(restart_delay_s(self._restarts))
            self._restarts += 1
            self.metrics.restarts.inc()
            if self._worker is not None:
                await self._worker.close()
            try:
                await self._start_worker()
            except PsistreamError as error:
                self.fault = f"the worker could not be restarted: {error.message}"
                log.error("%s", self.fault)
                continue
            log.warning("the worker runs again")
            return
        self.fault = f"the worker failed {self._restarts} times in a row; start psistream again"
        log.error("%s", self.fault)

    def _send(self, command: Command) -> None:
        """Raises Unavailable."""
        if self._worker is None or self.ready is None:
            raise Unavailable(self.fault or "the worker is not running; try again in a moment")
        self._worker.send(command)

    def _try(self, command: Command) -> None:
        """Where nobody can be told: a worker that is gone takes its sessions with it anyway."""
        with contextlib.suppress(Unavailable):
            self._send(command)

    def _count(self) -> None:
        slots = self.ready.max_sessions if self.ready else 0
        self.metrics.sessions.set(len(self._sessions))
        self.metrics.slots_free.set(max(0, slots - len(self._sessions)))
