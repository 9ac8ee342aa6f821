"""The gateway's housekeeping, every second: replaces hung workers, takes snapshots, balances workers,
throttles sessions and closes idle ones."""

from __future__ import annotations

import asyncio

from server.gateway.adoption import Adoption
from server.gateway.balance.balancer import Balancer
from server.gateway.care import SessionCare, WorkerCare
from server.gateway.fleet.fleet import Fleet
from server.gateway.records.records import Records
from server.gateway.registry import Sessions

EVERY_S = 1.0


class Upkeep:
    def __init__(
        self,
        sessions: Sessions,
        fleet: Fleet,
        worker_care: WorkerCare,
        session_care: SessionCare,
        adoption: Adoption,
        records: Records,
        balancer: Balancer,
    ) -> None:
        self._sessions, self._fleet = sessions, fleet
        self._worker_care, self._session_care = worker_care, session_care
        self._adoption, self._records, self._balancer = adoption, records, balancer

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                for worker in self._fleet:
                    self._worker_care.check(worker)
                self._worker_care.restore()
                self._balancer.check()
                self._session_care.share()
                for session in self._sessions:
                    self._session_care.check(session)
                    if session.opened.done():  # otherwise it may have no worker yet
                        self._records.keep(session, self._fleet.of(session))
                self._adoption.claim_deferred()
                self._records.forget()
        finally:
            await self._balancer.close()
            await self._worker_care.close()
