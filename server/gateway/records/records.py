"""Keeps records of sessions in workers that outlive this gateway, for the gateway that goes on with them."""

from __future__ import annotations

import time
from collections.abc import Callable

from server.gateway.budget import Budgets
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.records.record import record_of
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.worker.messages.holding import KeepRecord


class Records:
    """`wall_clock` tells the Unix time."""

    def __init__(
        self, sessions: Sessions, budgets: Budgets, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._sessions, self._budgets, self._wall_clock = sessions, budgets, wall_clock
        self._kept: dict[str, tuple[str, bytes]] = {}  # session → its worker, and the record that it has

    def keep(self, session: GatewaySession, worker: Supervisor) -> None:
        """Let the worker keep the session's record: to be called when that may have changed."""
        if not worker.outlives_gateway or session.orphaned or not session.opened.done():
            self._kept.pop(session.id, None)
            return
        record = record_of(session, self._budgets, self._wall_clock(), self._sessions.now_s())
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
