"""A spare worker with its model loaded, ready to take over when the running one dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.errors import PsistreamError
from server.tasks import Tasks
from server.worker.base import Event, MakeWorker, Worker, WorkerLost
from server.worker.messages.events import WorkerReady

log = logging.getLogger(__name__)

SETTLE_S = 5.0  # between a worker's start and that of its spare, which loads the same model
RETRY_S = 60.0  # between the death of a spare and the start of the next one
MEMORY_FACTOR = 3  # a spare may use a third of the free memory
LEAST_FREE_BYTES = 2**30


class Standby(NamedTuple):
    """A spare that can take over at once. Call `redirect` with the function that handles its events from then
    on."""

    worker: Worker
    ready: WorkerReady
    redirect: Callable[[Callable[[Event], None]], None]


class Spare:
    """`wanted` is True, False, or None for "if memory allows". `close` is idempotent."""

    def __init__(self, make_worker: MakeWorker, wanted: bool | None) -> None:
        self._make_worker, self._wanted = make_worker, wanted
        self._standby: Standby | None = None
        self._tasks = Tasks()
        self._busy = False
        self._loading: asyncio.Event | None = None  # set once the loading spare is ready or has failed

    @property
    def loaded(self) -> bool:
        """Whether a spare is ready to take over."""
        return self._standby is not None

    @property
    def coming(self) -> bool:
        """Whether a spare is ready or loading its model, so that it is ready sooner than a new worker."""
        return self._standby is not None or self._loading is not None

    def prepare(self, first: Worker) -> None:
        """Start a spare after SETTLE_S, beside the running worker."""
        if self._wanted is not False and not self._busy and self._standby is None:
            self._busy = True
            self._tasks.spawn(self._prepare(first, SETTLE_S), "start-spare")

    async def take(self) -> Standby | None:
        """Wait for the spare to be loaded and hand it out. None if there is none."""
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
            log.warning("the spare worker could not be started: %s", error.message)
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
            log.warning("the spare worker was lost: %s", event.message)
            self._standby, self._busy = None, True
            self._tasks.spawn(self._prepare(worker, RETRY_S), "start-spare")


def memory_allows(worker: Worker) -> bool:
    """Whether another worker of this size fits into main memory. False if that is unknown, as for a worker in
    a thread. GPU memory is not considered."""
    pid = getattr(worker, "pid", None)
    try:
        rows = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(1024 * int(row.split()[1]) for row in rows if row.startswith("MemAvailable:"))
        status = Path(f"/proc/{int(pid or 0)}/status").read_text(encoding="utf-8").splitlines()
        size = next(1024 * int(row.split()[1]) for row in status if row.startswith("VmRSS:"))
    except (OSError, ValueError, StopIteration, IndexError):
        return False
    return free >= max(MEMORY_FACTOR * size, LEAST_FREE_BYTES)
