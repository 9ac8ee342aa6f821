"""A second worker that has its model loaded and waits for the first one to die."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.errors import PsistreamError
from server.tasks import Tasks
from server.worker.base import Event, MakeWorker, Worker, WorkerLost
from server.worker.messages import WorkerReady

log = logging.getLogger(__name__)

SETTLE_S = 5.0  # after a worker's start, before its spare loads the same model beside it
RETRY_S = 60.0  # after a spare that could not be started, or died
MEMORY_FACTOR = 3  # a spare may take a third of what is free
LEAST_FREE_BYTES = 2**30


class Standby(NamedTuple):
    """A spare that can take over at once. `became` must be told what to do with its events from then on."""

    worker: Worker
    ready: WorkerReady
    became: Callable[[Callable[[Event], None]], None]


class Spare:
    """`wanted`: yes, no, or None: where memory allows. Idempotent `close`."""

    def __init__(self, make_worker: MakeWorker, wanted: bool | None) -> None:
        self._make_worker, self._wanted = make_worker, wanted
        self._standby: Standby | None = None
        self._tasks = Tasks()
        self._busy = False
        self._loading: asyncio.Event | None = None  # set when the one that loads is ready, or failed

    @property
    def waits(self) -> bool:
        """Whether one is ready to take over."""
        return self._standby is not None

    @property
    def comes(self) -> bool:
        """Whether one is ready, or loads its model already: sooner there than one that starts now."""
        return self._standby is not None or self._loading is not None

    def prepare(self, first: Worker) -> None:
        """Start one in a while, beside the worker that runs."""
        if self._wanted is not False and not self._busy and self._standby is None:
            self._busy = True
            self._tasks.spawn(self._prepare(first, SETTLE_S), "start-spare")

    async def take(self) -> Standby | None:
        """The spare, once it is loaded; it is no spare any more then."""
        if self._loading is not None:
            await self._loading.wait()
        standby, self._standby = self._standby, None
        return standby

    async def close(self) -> None:
        await self._tasks.close()
        if self._standby is not None:
            await self._standby.worker.close()
            self._standby = None

    async def _prepare(self, first: Worker, after_s: float) -> None:
        try:
            await asyncio.sleep(after_s)
            if self._wanted is None and not memory_allows(first):
                return
            self._loading = asyncio.Event()
            await self._start()
        except PsistreamError as error:
            log.warning("no spare worker could be started: %s", error.message)
        finally:
            self._busy = False
            if self._loading is not None:
                self._loading.set()
                self._loading = None

    async def _start(self) -> None:
        handle: list[Callable[[Event], None]] = []

        def receive(event: Event) -> None:
            if handle:
                handle[0](event)
            elif isinstance(event, WorkerLost):
                self._lost(worker, event)

        worker = self._make_worker(receive)
        try:
            ready = await worker.start()
        except asyncio.CancelledError:
            await worker.close()
            raise
        self._standby = Standby(worker, ready, handle.append)

    def _lost(self, worker: Worker, event: WorkerLost) -> None:
        if self._standby is not None and self._standby.worker is worker:
            log.warning("the spare worker is lost: %s", event.message)
            self._standby, self._busy = None, True
            self._tasks.spawn(self._prepare(worker, RETRY_S), "start-spare")


def memory_allows(worker: Worker) -> bool:
    """Whether another worker of this size fits well. False where that cannot be told: no other process, or
    memory of a GPU."""
    pid = getattr(worker, "pid", None)
    try:
        rows = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(1024 * int(row.split()[1]) for row in rows if row.startswith("MemAvailable:"))
        status = Path(f"/proc/{int(pid or 0)}/status").read_text(encoding="utf-8").splitlines()
        size = next(1024 * int(row.split()[1]) for row in status if row.startswith("VmRSS:"))
    except (OSError, ValueError, StopIteration, IndexError):
        return False
    return free >= max(MEMORY_FACTOR * size, LEAST_FREE_BYTES)
