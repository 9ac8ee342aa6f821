"""Keeps a worker running: starts it, replaces it when it dies or hangs, gives up when that doesn't help.

It doesn't know what the worker's events mean; it passes them on, those of the worker that runs now and of no
other: what an old one still says when it comes back from the dead is not heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from engine.errors import PsistreamError, Unavailable
from server.metrics import Metrics
from server.tasks import Tasks
from server.worker.base import NOT_RUNNING, Event, MakeWorker, OnEvent, Order, Worker, WorkerLost
from server.worker.messages import WorkerReady

log = logging.getLogger(__name__)

STOPPING = "the server is stopping"
FIRST_S, MOST_S = 0.1, 5.0
CAME_BACK_S = 1.0  # what a restart takes besides loading the model
HEALTHY_S = 30.0  # a worker that lived so long starts the count of restarts anew


def restart_delay_s(attempt: int) -> float:
    """How long to wait before restart number `attempt` (from 0) in a row."""
    return min(MOST_S, FIRST_S * 2.0**attempt)


class Supervisor:
    """`on_up` is awaited whenever a worker is ready; `on_lost` is told at once when one is gone, with why,
    and `on_end` when no other will come."""

    def __init__(
        self,
        make_worker: MakeWorker,
        on_event: OnEvent,
        on_up: Callable[[], Awaitable[None]],
        on_lost: Callable[[str], None],
        on_end: Callable[[str], None],
        metrics: Metrics,
        restart_limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ready: WorkerReady | None = None
        self.fault: str | None = "the model is being loaded"  # why there is no worker
        self.given_up = False  # there will be none any more
        self.start_took_s = 0.0
        self._make_worker, self._on_event, self._on_up = make_worker, on_event, on_up
        self._on_lost, self._on_end = on_lost, on_end
        self._metrics, self._limit, self._clock = metrics, restart_limit, clock
        self._worker: Worker | None = None
        self._number = 0  # of the worker that is listened to
        self._tasks = Tasks()
        self._attempts, self._restarting, self._closing = 0, False, False
        self._started_s = 0.0

    @property
    def lived_s(self) -> float:
        """How long this worker has been running."""
        return self._clock() - self._started_s

    @property
    def back_in_s(self) -> float:
        """How long it takes until sessions go on in another worker."""
        return self.start_took_s + CAME_BACK_S

    async def start(self) -> None:
        """Raises the PsistreamError that stopped it."""
        began_s = self._clock()
        self._number += 1
        self._worker = self._make_worker(partial(self._heard, self._number))
        self.ready = await self._worker.start()
        self._started_s, self.fault = self._clock(), None
        self.start_took_s = self._started_s - began_s
        self._metrics.worker(self.ready)
        await self._on_up()

    async def close(self) -> None:
        """Idempotent."""
        self._closing = True
        self.fault = STOPPING
        await self._tasks.close()
        if self._worker is not None:
            await self._worker.close()

    def send(self, command: Order) -> None:
        """Raises Unavailable."""
        if self._worker is None or self.ready is None:
            raise Unavailable(self.fault or NOT_RUNNING)
        self._worker.send(command)

    def try_send(self, command: Order) -> None:
        """Where nobody can be told: what a worker that is gone misses, the next one is told anyway."""
        with contextlib.suppress(Unavailable):
            self.send(command)

    def replace(self, why: str) -> None:
        """The worker lives but is of no use. Nothing more is heard of it; if need be it is killed."""
        if self.ready is not None:
            self._lose(why)

    def _heard(self, number: int, event: Event) -> None:
        if number != self._number:
            return
        if isinstance(event, WorkerLost):
            self._lose(event.message)
        else:
            self._on_event(event)

    def _lose(self, why: str) -> None:
        self._number += 1
        if self.lived_s > HEALTHY_S:
            self._attempts = 0
        another = self._attempts < self._limit and not self._closing
        log.error("%s%s", why, "; another one is started" if another else "")
        self.ready, self.fault = None, why
        self._metrics.worker_up.set(0)
        self._on_lost(why)
        if not self._closing and not self._restarting:
            self._restarting = True
            self._tasks.spawn(self._restart(), "restart-worker")

    async def _restart(self) -> None:
        try:
            while self._attempts < self._limit:
                await asyncio.sleep(restart_delay_s(self._attempts))
                self._attempts += 1
                self._metrics.restarts.inc()
                if self._worker is not None:
                    await self._worker.close()
                try:
                    await self.start()
                except PsistreamError as error:
                    self._number += 1
                    self.ready, self.fault = None, f"the worker could not be restarted: {error.message}"
                    self._on_lost(self.fault)
                    log.error("%s", self.fault)
                if self.ready is not None:  # it may have died while its sessions were opened
                    log.warning("the worker runs again")
                    return
            self.fault = f"{self.fault}; given up after {self._attempts} restarts: start psistream again"
            self.given_up = True
            log.error("%s", self.fault)
            self._on_end(self.fault)
        finally:
            self._restarting = False
