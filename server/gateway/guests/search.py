"""Looks for the worker that runs a session of another gateway: all workers are asked, and the one that runs
it with the highest epoch is right. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from engine.errors import Unavailable
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.guests.guest import Guest
from server.tasks import Tasks
from server.worker.messages.holding import WatchSession

ANSWER_S = 2.0  # within which workers say whether they run a session
FIRST_S, RARELY_S = 0.05, 1.0  # between two rounds of questions, at first and later
PATIENCE_S = 0.5


class Search:
    """`failed` is called with a guest that no worker runs."""

    def __init__(self, fleet: Fleet, now_s: Callable[[], float], failed: Callable[[Guest], None]) -> None:
        self._fleet, self._now_s, self._failed = fleet, now_s, failed
        self._tasks = Tasks()

    async def close(self) -> None:
        await self._tasks.close()

    def begin(self, guest: Guest, for_s: float) -> None:
        """Ask at once, and again for `for_s` seconds."""
        guest.until_s = max(guest.until_s if guest.searching else 0.0, self._now_s() + for_s)
        if not guest.searching:
            guest.searching = True
            guest.searched.clear()
            self._tasks.spawn(self._look(guest), "find-session")

    def newer(self, guest: Guest, than: int, otherwise: Callable[[], None]) -> None:
        """Its owner may be back soon, or have moved it: give it a moment, and ask all workers once."""

        async def ask() -> None:
            await asyncio.sleep(PATIENCE_S)
            if guest.searching:
                await guest.searched.wait()
            if guest.session.lease_epoch <= than and not guest.over:
                before, guest.least_epoch = guest.least_epoch, than + 1
                await self._round(guest)
                guest.least_epoch = before
            if guest.session.lease_epoch <= than:
                otherwise()

        self._tasks.spawn(ask(), "find-newer")

    def ask(self, guest: Guest, worker: Supervisor) -> None:
        """Tell it who watches. Raises Unavailable."""
        fanout = guest.session.fanout
        worker.send(WatchSession(guest.session.id, fanout.viewers, fanout.count))

    async def _look(self, guest: Guest) -> None:
        pause_s = FIRST_S
        while True:
            await self._round(guest)
            if guest.found or guest.over or self._now_s() >= guest.until_s:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RARELY_S)
        guest.searching = False
        guest.searched.set()
        if guest.worker is None:
            self._failed(guest)

    async def _round(self, guest: Guest) -> None:
        """Ask all workers but the one that is being watched, and wait until they have answered."""
        guest.asked.clear()
        for worker in self._fleet:
            if worker.outlives_gateway and worker.ready is not None and worker is not guest.worker:
                with contextlib.suppress(Unavailable):
                    self.ask(guest, worker)
                    guest.asked.add(worker.name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while guest.asked and not guest.found:
                    guest.news.clear()
                    await guest.news.wait()
