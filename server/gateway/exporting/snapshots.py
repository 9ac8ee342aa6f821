"""Takes the snapshots for recovery records.

One is requested when a segment is shown, but no more often than the configuration and the bandwidth allow.
The time between two snapshots bounds how much of its history a session loses when its worker dies.
"""

from __future__ import annotations

import logging
from collections import Counter

from engine.errors import PsistreamError
from server.gateway.exporting.exports import Exports
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.metrics import Metrics
from server.tasks import Tasks

log = logging.getLogger(__name__)

WORKER_BYTES_PER_S = 10e6  # from one worker, whose network carries frames too
BYTES_PER_S = 50e6  # from all of them: receiving a megabyte takes the event loop 1.7 ms


class Snapshots:
    """`every_s` is the shortest time between two snapshots of one session; 0 turns snapshots off."""

    def __init__(self, sessions: Sessions, exports: Exports, metrics: Metrics, every_s: float) -> None:
        self._sessions, self._exports, self._metrics = sessions, exports, metrics
        self._every_s = every_s
        self._changing = Counter[str]()  # worker → its sessions that need snapshots
        self._tasks = Tasks()

    async def close(self) -> None:
        await self._tasks.close()

    def share(self) -> None:
        """Share the bandwidth among the sessions that need it: those that play, and those that have changed
        since their last snapshot. Call it every second."""
        needy = (s for s in self._sessions if s.recovery.changed or not s.asleep)
        self._changing = Counter(session.worker for session in needy)

    def consider(self, session: GatewaySession) -> None:
        """Request a snapshot if one is due. Call it when a segment is shown, and every second."""
        if not self._every_s or session.orphaned or session.moving or not session.opened.done():
            return
        now_s = self._sessions.now_s()
        if session.recovery.due(now_s, max(self._every_s, self.fair_s(session))):
            session.recovery.asked(now_s)
            self._tasks.spawn(self._take(session, now_s), f"snapshot-{session.id}")

    def fair_s(self, session: GatewaySession) -> float:
        """The time between two snapshots of this session that the bandwidth allows."""
        here, everywhere = self._changing[session.worker], self._changing.total()
        return session.info.state_bytes * max(here / WORKER_BYTES_PER_S, everywhere / BYTES_PER_S)

    async def _take(self, session: GatewaySession, asked_s: float) -> None:
        snapshot, segment = None, -1
        try:
            answer = await self._exports.take(session.id, "snapshot")
            snapshot, segment = answer.data or b"", answer.segment
            self._metrics.snapshot_bytes.set(len(snapshot))
        except PsistreamError as error:
            log.debug("session %s: no snapshot: %s", session.id, error.message)
        finally:
            if session.recovery.asked_s == asked_s:  # else it has gone on from an earlier one meanwhile
                session.recovery.taken(snapshot, self._sessions.now_s(), segment)
