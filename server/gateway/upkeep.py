"""What is done every second: replace hung workers, take snapshots, throttle sessions and close idle ones."""

from __future__ import annotations

import asyncio
import contextlib

from engine.errors import PsistreamError, Unavailable
from server.config import ServerConfig
from server.gateway.exports import Exports
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.opening import Opener
from server.gateway.registry import Sessions
from server.gateway.session import MAIN, GatewaySession
from server.gateway.snapshots import Snapshots
from server.gateway.throttle import Throttle
from server.tasks import Tasks

EVERY_S = 1.0


class Upkeep:
    def __init__(
        self,
        config: ServerConfig,
        sessions: Sessions,
        fleet: Fleet,
        exports: Exports,
        snapshots: Snapshots,
        throttle: Throttle,
        failover: Failover,
        opener: Opener,
    ) -> None:
        self._config, self._sessions, self._fleet = config, sessions, fleet
        self._exports, self._snapshots, self._throttle = exports, snapshots, throttle
        self._failover, self._opener = failover, opener
        self._tasks = Tasks()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                for worker in self._fleet:
                    self._check(worker)
                self._restore()
                for session in self._sessions:
                    self._look_after(session)
                self._sessions.count()
        finally:
            await self._tasks.close()

    def overdue(self) -> list[str]:
        """Sessions that are watched and should move, but have shown nothing new for long."""
        return [session.id for session in self._overdue()]

    def _overdue(self) -> list[GatewaySession]:
        ready = self._fleet.ready
        period_s = max(ready.frames_per_segment / ready.fps, ready.segment_ms / 1000) if ready else 0.0
        return self._sessions.overdue(period_s)

    def _check(self, worker: Supervisor) -> None:
        ready = worker.ready
        if ready is None:
            return
        now_s, health = self._sessions.now_s(), worker.health
        health.listened(now_s)
        limit_s = max(self._config.hang_limit_s, 3 * ready.segment_ms / 1000)
        stands = any(session.worker == worker.name for session in self._overdue())
        why = health.hopeless(now_s, limit_s, overdue=stands)
        if why is not None:
            worker.replace(why)
            return
        fault = health.fault(now_s) is not None
        back_in_s = health.left_s(now_s, limit_s) + worker.back_in_s
        self._failover.worker_fault(worker, back_in_s if fault else None)
        if health.unresponsive is not None:
            self._refuse_pending(worker, health.unresponsive)

    def _restore(self) -> None:
        if not any(worker.ready and worker.health.unresponsive is None for worker in self._fleet):
            return
        self._failover.restore_all()
        if MAIN not in self._sessions:
            self._tasks.spawn(self._try_main(), "open-main")

    def _refuse_pending(self, worker: Supervisor, message: str) -> None:
        """Tell everybody who waits for an answer of this worker that none comes. Sessions that are open wait
        for this worker or the next."""
        for session in self._sessions.of(worker.name):
            if not session.opened.done():
                self._opener.drop(session, Unavailable.code, message)
            self._exports.fail(Unavailable(message), session.id)

    async def _try_main(self) -> None:
        with contextlib.suppress(PsistreamError):  # tried again in a second
            await self._opener.open_main()

    def _look_after(self, session: GatewaySession) -> None:
        now_s, config = self._sessions.now_s(), self._config
        unused_s = 0.0 if session.fanout.count else now_s - session.used_s
        if unused_s > config.session_idle_s and session.id != MAIN:  # it keeps others out
            self._opener.drop(session, "idle", "nobody watched or steered it any more")
            return
        self._throttle.check(session)
        if session.buffering is not None:  # a retained message must not announce a time that has passed
            self._sessions.tell(session)
        self._snapshots.consider(session)
