"""Moves sessions that don't play in real time to workers that have room, while people watch.

So sessions that a failover has crowded together spread again once the lost worker is back, and a worker that
was added takes what the others can't serve. `policy` decides between which workers; which session goes is
decided here.
"""

from __future__ import annotations

import logging

from server.gateway.balance.policy import BalancePolicy, Move, WorkerLoad
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.probation import is_suspect
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.migration import Migration
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.tasks import Tasks

log = logging.getLogger(__name__)

ARRIVED_S = 3.0  # a session has found its pace in a worker after this long
STAYS_S = 60.0  # a session that was moved is not moved again for this long


class Balancer:
    """Moves only this gateway's sessions."""

    def __init__(
        self, sessions: Sessions, fleet: Fleet, migration: Migration, policy: BalancePolicy | None = None
    ) -> None:
        self._sessions, self._fleet, self._migration = sessions, fleet, migration
        self._policy = policy or BalancePolicy()
        self._moved_s: dict[str, float] = {}  # sessions, by id
        self._tasks = Tasks()

    async def close(self) -> None:
        await self._tasks.close()

    def check(self) -> None:
        """Begin the moves that are due. Call it every second."""
        if len(self._fleet) < 2:
            return
        now_s = self._sessions.now_s()
        self._moved_s = {name: at for name, at in self._moved_s.items() if now_s - at < STAYS_S}
        running = [w for w in self._fleet if w.ready is not None and w.capacity is not None]
        leaving = {worker.name: self._next_to_leave(worker, now_s) for worker in running}
        loads = [self._load(worker, gives=leaving[worker.name] is not None) for worker in running]
        for move in self._policy.moves(loads, now_s):
            session = leaving[move.source]
            if session is not None:
                self._tasks.spawn(self._move(session, move), f"balance-{session.id}")

    async def _move(self, session: GatewaySession, move: Move) -> None:
        moved, reason = False, "slow" if _is_slow(session) else "over capacity"
        try:
            target = self._fleet.named(move.target)
            moved = await self._migration.move(session, target, "balance")
        finally:
            now_s = self._sessions.now_s()
            self._policy.ended(move, now_s, moved=moved)
        if moved:
            self._moved_s[session.id] = now_s
            log.info("%s is %s: session %s was moved to %s", move.source, reason, session.id, move.target)

    def _load(self, worker: Supervisor, *, gives: bool) -> WorkerLoad:
        now_s = self._sessions.now_s()
        slow = [s for s in self._sessions.of(worker.name) if _is_slow(s) and _has_arrived(s, now_s)]
        return WorkerLoad(
            name=worker.name,
            capacity=worker.capacity.sessions if worker.capacity is not None else 0,
            playing=self._fleet.playing(worker),
            slow=bool(slow) and worker.fault is None,
            gives=gives,
            takes=worker.accepts and not worker.left and self._fleet.places_left(worker) > 0,
        )

    def _next_to_leave(self, worker: Supervisor, now_s: float) -> GatewaySession | None:
        """Of the sessions that may move: a slow one, and of these the one that came last, since it loses the
        least of its past. A worker that is drained or has a fault loses its sessions in another way."""
        if worker.draining or worker.fault is not None:
            return None
        some = [s for s in self._sessions.of(worker.name) if _may_move(s) and _has_arrived(s, now_s)]
        some = [session for session in some if session.id not in self._moved_s]
        return max(some, key=lambda session: (_is_slow(session), session.placed_s), default=None)


def _is_slow(session: GatewaySession) -> bool:
    """Whether its viewers see slow motion or a stall."""
    if session.asleep or session.orphaned or session.throttled or session.stats is None:
        return False
    return session.buffering is not None or session.stats.rate < 1.0


def _has_arrived(session: GatewaySession, now_s: float) -> bool:
    return session.stats is not None and now_s - session.placed_s >= ARRIVED_S


def _may_move(session: GatewaySession) -> bool:
    """Sleeping sessions may not, since they take nobody's time; neither may those whose failover, migration,
    trial or end is under way."""
    rests = session.asleep or session.throttled
    fails = session.orphaned or session.lost_s is not None or session.resuming or is_suspect(session)
    leaves = session.moving or session.handover is not None or session.closing or session.closed.is_set()
    return session.opened.done() and not (rests or fails or leaves)
