"""Keeps a worker running: starts it, replaces it when it dies, gives up when that doesn't help.

It doesn't know what the worker's events mean; it passes them on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from engine.errors import PsistreamError, Unavailable
from engine.types import Command, WorkerReady
from server.metrics import Metrics
from server.tasks import Tasks
from server.worker.base import Event, MakeWorker, OnEvent, Worker, WorkerLost

log = logging.getLogger(__name__)

FIRST_S, MOST_S = 0.1, 5.0
HEALTHY_S = 30.0  # a worker that lived so long starts the count of restarts anew


def restart_delay_s(attempt: int) -> float:
    """How long to wait before restart number `attempt` (from 0) in a row."""
    return min(MOST_S, FIRST_S * 2.0**attempt)


class Supervisor:
    """`on_up` is awaited whenever a worker is ready; `on_lost` is told at once when one is gone, with why."""

    def __init__(
        self,
        make_worker: MakeWorker,
        on_event: OnEvent,
        on_up: Callable[[], Awaitable[None]],
        on_lost: Callable[[str], None],
        metrics: Metrics,
        restart_limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ready: WorkerReady | None = None
        self.fault: str | None = "the model is being loaded"  # why there is no worker
        self._make_worker, self._on_event, self._on_up = make_worker, on_event, on_up
        self._on_lost, self._metrics, self._limit, self._clock = on_lost, metrics, restart_limit, clock
        self._worker: Worker | None = None
        self._tasks = Tasks()
        self._attempts, self._restarting, self._closing = 0, False, False
        self._started_s = 0.0

    async def start(self) -> None:
        """Raises the PsistreamError that stopped it."""
        self._worker = self._make_worker(self._heard)
        self.ready = await self._worker.start()
        self._started_s, self.fault = self._clock(), None
        self._metrics.worker(self.ready)
        await self._on_up()

    async def close(self) -> None:
        """Idempotent."""
        self._closing = True
        self.fault = "the server is stopping"
        await self._tasks.close()
        if self._worker is not None:
            await self._worker.close()

    def send(self, command: Command) -> None:
        """Raises Unavailable."""
        if self._worker is None or self.ready is None:
            raise Unavailable(self.fault or "the worker is not running; try again in a moment")
        self._worker.send(command)

    def _heard(self, event: Event) -> None:
        if not isinstance(event, WorkerLost):
            self._on_event(event)
            return
        log.error("%s; its sessions are lost", event.message)
        self.ready, self.fault = None, event.message
        self._metrics.worker_up.set(0)
        self._on_lost(event.message)
        if self._clock() - self._started_s > HEALTHY_S:
            self._attempts = 0
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
                    log.warning("the worker runs again")
                    return
                except PsistreamError as error:
                    self.ready, self.fault = None, f"the worker could not be restarted: {error.message}"
                    log.error("%s", self.fault)
            self.fault = f"{self.fault}; given up after {self._attempts} restarts: start psistream again"
            log.error("%s", self.fault)
        finally:
            self._restarting = False
