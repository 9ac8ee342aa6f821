"""Records of this gateway's sessions: kept in workers that outlive it, for the next gateway of the session,
and applied to sessions that come from another gateway or from the store."""

from __future__ import annotations

import time
from collections.abc import Callable

from server.gateway.fleet.supervisor import Supervisor
from server.gateway.records.record import Record, record_of
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.worker.messages.holding import KeepRecord


class Records:
    """`wall_clock` tells the Unix time."""

    def __init__(self, sessions: Sessions, wall_clock: Callable[[], float] = time.time) -> None:
        self._sessions, self._wall_clock = sessions, wall_clock
        self._kept: dict[str, tuple[str, bytes]] = {}  # session → its worker, and the record that it has

    def wall_s(self) -> float:
        """The Unix time."""
        return self._wall_clock()

    def of(self, session: GatewaySession) -> bytes:
        """Its record as of now."""
        return record_of(session, self._sessions.budgets, self._wall_clock(), self._sessions.now_s())

    def charge(self, record: Record) -> None:
        """Count a session that comes with this record for its client."""
        record.charge(self._sessions.budgets, self._wall_clock())

    def apply(self, record: Record, session: GatewaySession) -> None:
        """See Record.apply."""
        record.apply(session, self._wall_clock(), self._sessions.now_s())

    def keep(self, session: GatewaySession, worker: Supervisor) -> None:
        """Let the worker keep the session's record: to be called when that may have changed."""
        if not worker.outlives_gateway or session.orphaned or not session.opened.done():
            self._kept.pop(session.id, None)
            return
        record = self.of(session)
        if self._kept.get(session.id) != (worker.name, record):
            self._kept[session.id] = worker.name, record
            worker.try_send(KeepRecord(session.id, record))

    def anew(self, session: GatewaySession, worker: Supervisor) -> None:
        """The worker has a new copy of the session, which came without a record."""
        self._kept.pop(session.id, None)
        self.keep(session, worker)

    def forget(self) -> None:
        """Sessions that have ended need no record: to be called now and then."""
        self._kept = {name: kept for name, kept in self._kept.items() if name in self._sessions}
