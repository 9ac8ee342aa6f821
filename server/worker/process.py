"""A worker in a child process: its Python code cannot delay the gateway, and its death ends no session.

Both sides speak the wire protocol (server.worker.wire) over a private pair of sockets. The child exits when
it closes, so it never outlives its parent; the parent detects the child's death in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from multiprocessing import resource_tracker

from engine.errors import PsistreamError, Unavailable
from server.config import WorkerConfig
from server.gpus import VISIBLE
from server.log_format import set_up
from server.tasks import Tasks
from server.worker.base import OnEvent, Order, WorkerLost
from server.worker.core import Emit, WorkerCore
from server.worker.hosting.host import Host, leave
from server.worker.messages.commands import Stop
from server.worker.messages.events import WorkerReady
from server.worker.remote import WorkerLink
from server.worker.wire.connection import Connection

log = logging.getLogger(__name__)

GRACE_S = 1.0  # for an orderly stop
IMPORTS_S = (
    120.0  # until the child is running Python: long on a busy machine, and its death is noticed at once
)
FAILED = 1  # exit code of a worker that was not told to stop
NO_KEY = b""  # nobody else can reach the sockets


class ProcessWorker:
    """Started by `spawn`, so the child shares no memory."""

    def __init__(self, config: WorkerConfig, on_event: OnEvent) -> None:
        self._config, self._on_event = config, on_event
        self._link = WorkerLink(on_event, self._ended)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._closing = False
        self._tasks = Tasks()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> WorkerReady:
        ours, theirs = socket.socketpair()
        try:
            with theirs:  # or the end of the child would not be the end of the connection
                self._process = await asyncio.to_thread(self._spawn, theirs)
            welcome = await self._link.meet(partial(_connected, ours), NO_KEY, IMPORTS_S)
        except Unavailable as error:
            why = await asyncio.to_thread(self._why, error.message)
            await self.close()
            raise Unavailable(why) from None
        except BaseException:
            ours.close()
            await self.close()
            raise
        return welcome.ready

    def send(self, command: Order) -> None:
        self._link.send(command)

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._process is not None:
            with contextlib.suppress(Unavailable):
                self._link.send(Stop())
            self._link.close()
            await asyncio.to_thread(_stop, self._process)
        await self._link.finish()
        await self._tasks.close()

    def _spawn(self, theirs: socket.socket) -> multiprocessing.process.BaseProcess:
        process = multiprocessing.get_context("spawn").Process(
            target=child_main, args=(theirs, self._config), name="psistream-worker", daemon=True
        )
        resource_tracker.ensure_running()  # which `start` would do, and then unblock the signal again
        # Ctrl-C reaches the whole process group: until the child ignores it, it would end with a traceback
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process

    def _ended(self, why: str | None) -> None:
        self._tasks.spawn(self._report(why), "worker-lost")

    async def _report(self, why: str | None) -> None:
        """Describe how the child ended."""
        message = why or str(await asyncio.to_thread(self._why, "the worker closed its connection"))
        if not self._closing:
            self._on_event(WorkerLost(message))

    def _why(self, otherwise: str) -> str:
        if self._process is None:
            return otherwise
        self._process.join(GRACE_S)
        return otherwise if self._process.exitcode == 0 else _cause_of_death(self._process.exitcode)


async def _connected(own: socket.socket, make: Callable[[], Connection]) -> None:
    await asyncio.get_running_loop().create_connection(make, sock=own)


def _stop(process: multiprocessing.process.BaseProcess) -> None:
    process.join(GRACE_S)
    if process.is_alive():
        log.warning("the worker did not stop within %.0f s: killing it", GRACE_S)
        process.kill()
        process.join(GRACE_S)


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is None:
        return "the worker closed its connection but is still running"
    if exitcode < 0:
        return f"the worker was killed by signal {-exitcode} ({signal.strsignal(-exitcode)})"
    return f"the worker ended with exit code {exitcode}"


# ---- in the child ----


def child_main(own: socket.socket, config: WorkerConfig) -> None:
    """Load the model, report it, and run orders until told to stop or until the parent is gone."""
    set_up(config.log.kind, config.log.level)
    # Ctrl-C and a terminal that closes reach the whole process group; the parent decides
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if config.gpu is not None:
        os.environ[VISIBLE] = config.gpu
    cores: list[WorkerCore] = []
    exitcode = FAILED
    try:
        if asyncio.run(_serve_parent(own, config, cores)) is None:
            exitcode = 0
    except PsistreamError:  # the parent was told
        return
    except Exception:  # the outermost loop: nothing above would log it
        log.exception("the worker failed")
    finally:
        if cores:
            leave(cores[0], exitcode)


async def _serve_parent(own: socket.socket, config: WorkerConfig, cores: list[WorkerCore]) -> str | None:
    host = Host(NO_KEY, private=True)
    await asyncio.get_running_loop().create_connection(host.entrance.connection, sock=own)

    def load(emit: Emit) -> WorkerCore:
        cores.append(WorkerCore(config, emit))
        return cores[0]

    return await host.run(load)
