"""Takes the snapshots for recovery records.

One is requested when a segment is shown, but no more often than the configuration and the connection's
bandwidth allow. The time between two snapshots bounds how much of its history a session loses when its worker
dies.
"""

from __future__ import annotations

import logging

from engine.errors import PsistreamError
from server.gateway.exports import Exports
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.metrics import Metrics
from server.tasks import Tasks

log = logging.getLogger(__name__)

BYTES_PER_S = 10e6  # for all sessions together, since frames use the same connection


class Snapshots:
    """`every_s` is the shortest time between two snapshots of one session; 0 turns snapshots off."""

    def __init__(self, sessions: Sessions, exports: Exports, metrics: Metrics, every_s: float) -> None:
        self._sessions, self._exports, self._metrics = sessions, exports, metrics
        self._every_s = every_s
        self._tasks = Tasks()

    async def close(self) -> None:
        await self._tasks.close()

    def consider(self, session: GatewaySession) -> None:
        """Request a snapshot if one is due. Call it when a segment is shown, and every second."""
        if not self._every_s or session.orphaned or session.moving or not session.opened.done():
            return
        now_s = self._sessions.now_s()
        fair_s = len(self._sessions) * session.info.state_bytes / BYTES_PER_S
        if session.recovery.due(now_s, max(self._every_s, fair_s)):
            session.recovery.asked(now_s)
            self._tasks.spawn(self._take(session), f"snapshot-{session.id}")

    async def _take(self, session: GatewaySession) -> None:
        snapshot = None
        try:
            snapshot = await self._exports.ask(session.id, "snapshot")
            self._metrics.snapshot_bytes.set(len(snapshot))
        except PsistreamError as error:
            log.debug("session %s: no snapshot: %s", session.id, error.message)
        finally:
            session.recovery.taken(snapshot, self._sessions.now_s())
