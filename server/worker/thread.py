"""A worker in threads of this process: for tests, and where a single process is wanted (`--worker
thread`)."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading

from engine.errors import Unavailable
from server.config import WorkerConfig
from server.worker.base import NOT_RUNNING, TOO_MUCH, Event, OnEvent, Order, WorkerLost
from server.worker.core import WorkerCore
from server.worker.messages.commands import Stop
from server.worker.messages.events import WorkerReady

OUTBOX = 512  # queued commands; when it is full, `send` raises Unavailable
GRACE_S = 2.0


class InProcessWorker:
    """Same contract as ProcessWorker. Commands run on their own thread, since they may wait for the
    device."""

    def __init__(self, config: WorkerConfig, on_event: OnEvent) -> None:
        self._config, self._on_event = config, on_event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._device: WorkerCore | None = None
        self._commands: queue.Queue[Order] = queue.Queue(OUTBOX)
        self._thread: threading.Thread | None = None
        self._closed = False

    async def start(self) -> WorkerReady:
        self._loop = asyncio.get_running_loop()
        self._device = await asyncio.to_thread(WorkerCore, self._config, self._emit)
        self._thread = threading.Thread(target=self._run, args=(self._device,), name="worker", daemon=True)
        self._thread.start()
        return self._device.ready

    def send(self, command: Order) -> None:
        if self._thread is None or self._closed:
            raise Unavailable(NOT_RUNNING)
        try:
            self._commands.put_nowait(command)
        except queue.Full:
            raise Unavailable(TOO_MUCH) from None

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._commands.put_nowait(Stop())
            await asyncio.to_thread(self._thread.join, GRACE_S)

    def _run(self, device: WorkerCore) -> None:
        while True:
            command = self._commands.get()
            try:
                device.handle(command)
            except Unavailable as error:
                self._emit(WorkerLost(f"the worker has failed: {error.message}"))
                device.close()
                return
            if isinstance(command, Stop):
                return

    def _emit(self, event: Event) -> None:
        if self._loop is not None and not self._loop.is_closed() and not self._closed:
            self._loop.call_soon_threadsafe(self._on_event, event)
