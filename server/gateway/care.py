"""What workers and sessions need from time to time: see Upkeep, which calls it."""

from __future__ import annotations

import contextlib

from engine.errors import PsistreamError, Unavailable
from server.config import ServerConfig
from server.gateway.exporting.exports import Exports
from server.gateway.exporting.snapshots import Snapshots
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.guests.guests import Guests
from server.gateway.opening import Opener
from server.gateway.registry import Sessions
from server.gateway.session import MAIN, GatewaySession
from server.gateway.throttle import Throttle
from server.tasks import Tasks

FAILOVER_S = 6.0  # a worker that hangs or is silent is not waited for longer if another one has capacity


class WorkerCare:
    """Replaces workers that hang, and restores the sessions that have none."""

    def __init__(
        self,
        config: ServerConfig,
        sessions: Sessions,
        fleet: Fleet,
        exports: Exports,
        failover: Failover,
        opener: Opener,
        guests: Guests,
    ) -> None:
        self._config, self._sessions, self._fleet = config, sessions, fleet
        self._exports, self._failover, self._opener, self._guests = exports, failover, opener, guests
        self._tasks = Tasks()

    async def close(self) -> None:
        await self._tasks.close()

    def overdue(self) -> list[str]:
        """Ids of sessions that are watched and not paused, but have shown nothing new for too long."""
        return [session.id for session in self._sessions if self._is_overdue(session)]

    def _is_overdue(self, session: GatewaySession) -> bool:
        ready = self._fleet.ready
        return session.overdue(self._sessions.now_s(), ready.period_s if ready else 0.0)

    def check(self, worker: Supervisor) -> None:
        ready = worker.ready
        if ready is None:
            return
        now_s, health = self._sessions.now_s(), worker.health
        health.checked(now_s)
        limit_s = max(self._config.hang_limit_s, 3 * ready.segment_ms / 1000)
        if health.fault(now_s) is not None and self._has_refuge(worker):
            limit_s = min(limit_s, max(FAILOVER_S, 3 * ready.segment_ms / 1000))
        overdue = any(map(self._is_overdue, self._sessions.of(worker.name)))
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
        """Whether another worker has capacity for one of its sessions, which then need not wait for it. Those
        of other gateways that are watched here count too: their owner opens them again elsewhere."""
        used = self._sessions.count(worker.name) > 0 or self._guests.watch(worker)
        return used and self._fleet.other_worker(worker.name) is not None

    def restore(self) -> None:
        """Sessions that wait for a worker, and `main` if it is missing."""
        if not any(worker.ready and worker.health.unresponsive is None for worker in self._fleet):
            return
        self._failover.restore_all()
        if self._opener.opens_main and MAIN not in self._sessions:
            self._tasks.spawn(self._try_main(), "open-main")

    def _refuse_pending(self, worker: Supervisor, message: str) -> None:
        """Fail all pending requests to this worker, including sessions being opened. Open sessions wait for
        this worker or its successor."""
        sessions = self._sessions.of(worker.name)
        self._exports.fail(Unavailable(message), {session.id for session in sessions})
        for session in sessions:
            if not session.opened.done():
                self._opener.drop(session, Unavailable.code, message)

    async def _try_main(self) -> None:
        with contextlib.suppress(PsistreamError):  # retried in a second
            await self._opener.open_main()


class SessionCare:
    """Closes sessions that nobody uses, slows those down that use too much, and takes snapshots of all."""

    def __init__(
        self,
        config: ServerConfig,
        sessions: Sessions,
        throttle: Throttle,
        snapshots: Snapshots,
        opener: Opener,
    ) -> None:
        self._config, self._sessions = config, sessions
        self._throttle, self._snapshots, self._opener = throttle, snapshots, opener

    def share(self) -> None:
        """To be called before the sessions are checked."""
        self._snapshots.share()

    def check(self, session: GatewaySession) -> None:
        now_s, config = self._sessions.now_s(), self._config
        used = session.viewers or not session.opened.done()
        unused_s = 0.0 if used else now_s - session.used_s
        if unused_s > config.session_idle_s and session.id != MAIN:  # it occupies a place
            self._opener.drop(session, "idle", "nobody has watched or steered it for a while")
            return
        self._throttle.check(session)
        if session.buffering is not None:  # keep the remaining time in retained messages up to date
            self._sessions.announce(session)
        self._snapshots.consider(session)
