"""The gateway's housekeeping, every second: replaces hung workers, takes snapshots, throttles sessions and
closes idle ones."""

from __future__ import annotations

import asyncio
import contextlib

from engine.errors import PsistreamError, Unavailable
from server.config import ServerConfig
from server.gateway.adoption import Adoption
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
FAILOVER_S = 6.0  # a worker that hangs or is silent is not waited for longer if another one has capacity


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
        adoption: Adoption,
        opener: Opener,
    ) -> None:
        self._config, self._sessions, self._fleet = config, sessions, fleet
        self._exports, self._snapshots, self._throttle = exports, snapshots, throttle
        self._failover, self._adoption, self._opener = failover, adoption, opener
        self._tasks = Tasks()

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                for worker in self._fleet:
                    self._check_worker(worker)
                self._restore()
                for session in self._sessions:
                    self._check_session(session)
                    self._adoption.record(session, self._fleet.of(session))
                self._adoption.forget()
                self._sessions.count()
        finally:
            await self._tasks.close()

    def overdue(self) -> list[str]:
        """Ids of sessions that are watched and not paused, but have shown nothing new for too long."""
        return [session.id for session in self._overdue()]

    def _overdue(self) -> list[GatewaySession]:
        ready = self._fleet.ready
        period_s = max(ready.frames_per_segment / ready.fps, ready.segment_ms / 1000) if ready else 0.0
        return self._sessions.overdue(period_s)

    def _check_worker(self, worker: Supervisor) -> None:
        ready = worker.ready
        if ready is None:
            return
        now_s, health = self._sessions.now_s(), worker.health
        health.checked(now_s)
        limit_s = max(self._config.hang_limit_s, 3 * ready.segment_ms / 1000)
        if health.fault(now_s) is not None and self._has_refuge(worker):
            limit_s = min(limit_s, max(FAILOVER_S, 3 * ready.segment_ms / 1000))
        overdue = any(session.worker == worker.name for session in self._overdue())
        why = health.must_replace(now_s, limit_s, overdue=overdue)
        if why is not None:
            worker.replace(why)
            return
        fault = health.fault(now_s) is not None
        back_in_s = health.remaining_s(now_s, limit_s) + worker.back_in_s
        self._failover.worker_fault(worker, back_in_s if fault else None)
        if health.unresponsive is not None:
            self._refuse_pending(worker, health.unresponsive)

    def _has_refuge(self, worker: Supervisor) -> bool:
        """Whether another worker has capacity for one of its sessions, which then need not wait for it."""
        return any(self._fleet.other_worker(session) for session in self._sessions.of(worker.name))

    def _restore(self) -> None:
        if not any(worker.ready and worker.health.unresponsive is None for worker in self._fleet):
            return
        self._failover.restore_all()
        if MAIN not in self._sessions:
            self._tasks.spawn(self._try_main(), "open-main")

    def _refuse_pending(self, worker: Supervisor, message: str) -> None:
        """Fail all pending requests to this worker, including sessions being opened. Open sessions wait for
        this worker or its successor."""
        for session in self._sessions.of(worker.name):
            if not session.opened.done():
                self._opener.drop(session, Unavailable.code, message)
            self._exports.fail(Unavailable(message), session.id)

    async def _try_main(self) -> None:
        with contextlib.suppress(PsistreamError):  # retried in a second
            await self._opener.open_main()

    def _check_session(self, session: GatewaySession) -> None:
        now_s, config = self._sessions.now_s(), self._config
        unused_s = 0.0 if session.fanout.count else now_s - session.used_s
        if unused_s > config.session_idle_s and session.id != MAIN:  # it occupies a place
            self._opener.drop(session, "idle", "nobody has watched or steered it for a while")
            return
        self._throttle.check(session)
        if session.buffering is not None:  # keep the remaining time in retained messages up to date
            self._sessions.announce(session)
        self._snapshots.consider(session)
