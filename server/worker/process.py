"""A worker in a child process: its Python code cannot delay the gateway, and its death ends no session.

Both sides send pickled dataclasses over a pipe. The child exits when the pipe closes, so it never outlives
its parent. The parent detects the child's death by the end of the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from multiprocessing.connection import Connection

from engine.errors import PsistreamError, Unavailable
from server.config import WorkerConfig
from server.gpus import VISIBLE
from server.log_format import set_up
from server.worker.base import NOT_RUNNING, TOO_MUCH, Event, OnEvent, Order, WorkerLost, as_error, as_failure
from server.worker.core import WorkerCore
from server.worker.messages import Stop, WorkerFailed, WorkerReady

log = logging.getLogger(__name__)

OUTBOX = 512  # commands queued for the pipe; when it is full, `send` raises Unavailable
GRACE_S = 1.0  # for an orderly stop
FAILED = 1  # exit code of a worker that was not told to stop


class ProcessWorker:
    """Started by `spawn`, so the child shares no memory. Threads read and write the pipe; the event loop
    never waits."""

    def __init__(self, config: WorkerConfig, on_event: OnEvent) -> None:
        self._config, self._on_event = config, on_event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[WorkerReady] | None = None
        self._commands: queue.Queue[Order | None] = queue.Queue(OUTBOX)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._reader: threading.Thread | None = None
        self._closing = self._lost = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> WorkerReady:
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        try:
            await asyncio.to_thread(self._spawn)
            return await self._ready
        except BaseException:
            await self.close()
            raise

    def send(self, command: Order) -> None:
        if self._lost or self._closing or self._process is None:
            raise Unavailable(NOT_RUNNING)
        try:
            self._commands.put_nowait(command)
        except queue.Full:
            raise Unavailable(TOO_MUCH) from None

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._process is not None:
            await asyncio.to_thread(self._stop, self._process)

    # ---- threads ----

    def _spawn(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=child_main, args=(theirs, self._config), name="psistream-worker", daemon=True
        )
        self._process.start()
        theirs.close()  # otherwise the pipe would stay open when the child exits
        writer = threading.Thread(target=self._write, args=(ours,), name="worker-write", daemon=True)
        self._reader = threading.Thread(
            target=self._read, args=(ours, writer), name="worker-read", daemon=True
        )
        writer.start()
        self._reader.start()

    def _read(self, pipe: Connection, writer: threading.Thread) -> None:
        """Read events until the child is gone, then close the pipe."""
        while True:
            try:
                event = pipe.recv()
            except (EOFError, OSError):
                break
            self._post(event)
        self._lost = True
        with contextlib.suppress(queue.Full):
            self._commands.put_nowait(None)
        if not self._closing and self._process is not None:
            self._process.join(GRACE_S)
            self._post(WorkerLost(_cause_of_death(self._process.exitcode)))
        writer.join()
        pipe.close()

    def _write(self, pipe: Connection) -> None:
        while (command := self._commands.get()) is not None:
            try:
                pipe.send(command)
            except (OSError, ValueError):  # the reader notices it too and reports it
                return

    def _stop(self, process: multiprocessing.process.BaseProcess) -> None:
        for last in (Stop(), None):
            with contextlib.suppress(queue.Full):
                self._commands.put_nowait(last)
        process.join(GRACE_S)
        if process.is_alive():
            log.warning("the worker did not stop within %.0f s: killing it", GRACE_S)
            process.kill()
            process.join(GRACE_S)
        if self._reader is not None:
            self._reader.join(GRACE_S)

    def _post(self, event: Event) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._deliver, event)

    def _deliver(self, event: Event) -> None:
        """Handle an event on the event loop."""
        if self._ready is not None and not self._ready.done():
            match event:
                case WorkerReady():
                    self._ready.set_result(event)
                case WorkerFailed(code, message):
                    self._ready.set_exception(as_error(code, message))
                case WorkerLost(message):
                    self._ready.set_exception(Unavailable(message))
                case _:
                    self._on_event(event)
            return
        if not self._closing:
            self._on_event(event)


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is None:
        return "the worker closed its pipe but is still running"
    if exitcode < 0:
        return f"the worker was killed by signal {-exitcode} ({signal.strsignal(-exitcode)})"
    return f"the worker ended with exit code {exitcode}"


# ---- in the child ----


def child_main(pipe: Connection, config: WorkerConfig) -> None:
    """Load the model, report it, and run commands until told to stop or until the parent is gone."""
    set_up(config.log.kind, config.log.level)
    # Ctrl-C and a closed terminal signal the whole process group; the parent decides what to do
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if config.gpu is not None:
        os.environ[VISIBLE] = config.gpu
    lock = threading.Lock()

    def emit(event: Event) -> None:
        with lock:
            with contextlib.suppress(OSError, ValueError):  # the parent is gone: `_run_commands` notices
                pipe.send(event)
            if isinstance(event, WorkerLost):  # this process is no longer usable
                os._exit(FAILED)

    try:
        device = WorkerCore(config, emit)
    except PsistreamError as error:
        emit(as_failure(error))
        return
    emit(device.ready)
    exitcode = FAILED
    try:
        _run_commands(device, pipe)
        exitcode = 0
    except Exception:  # outermost loop: nothing above would log it
        log.exception("the worker failed")
    finally:
        threading.Timer(GRACE_S, os._exit, (exitcode,)).start()  # a hung device must not keep it alive
        device.close()
        os._exit(exitcode)


def _run_commands(device: WorkerCore, pipe: Connection) -> None:
    while True:
        try:
            command = pipe.recv()
        except (EOFError, OSError):
            return
        if isinstance(command, Stop):
            return
        device.handle(command)
