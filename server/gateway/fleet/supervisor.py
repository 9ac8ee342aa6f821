"""Keeps one worker running: starts it, replaces it when it dies or hangs, and gives up after too many tries.

It does not interpret the worker's events. It passes on only the events of the current worker, so one that was
replaced and responds again is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from engine.errors import PsistreamError, Unavailable
from engine.types import Capacity
from server.gateway.fleet.spare import Spare
from server.gateway.fleet.worker_health import Health
from server.logs import about
from server.metrics import Metrics
from server.tasks import Tasks
from server.worker.base import NOT_RUNNING, Alive, Event, MakeWorker, Order, Worker, WorkerLost
from server.worker.messages.events import WorkerReady
from server.worker.messages.holding import Fenced, Orphaned

log = logging.getLogger(__name__)

STOPPING = "the server is stopping"
LEFT = "the worker has left the cluster"
FIRST_DELAY_S, MAX_DELAY_S = 0.1, 5.0
LATER_S = 2.0  # until a successor that nobody waits for is started: the others need the processor more
RESTORE_S = 1.0  # time of a restart besides loading the model
HEALTHY_S = 30.0  # after this uptime, a death no longer counts as a consecutive one


def restart_delay_s(attempt: int) -> float:
    """Seconds to wait before the consecutive restart number `attempt`, counted from 0."""
    return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt, 10))


class WorkerOwner(Protocol):
    """Receives what happens to a worker. All methods are called on the event loop."""

    def worker_event(self, worker: Supervisor, event: Event) -> None: ...

    async def worker_up(self, worker: Supervisor) -> None:
        """A worker is ready. Raises PsistreamError if it turns out to be unusable."""
        ...

    def worker_lost(self, worker: Supervisor) -> None:
        """The worker is gone; called at once."""
        ...

    def worker_given_up(self, worker: Supervisor) -> None:
        """The worker will not be replaced."""
        ...


class Supervisor:
    """`name` stays the same when the worker is replaced. `capacity` is what the worker last reported. While
    `draining`, it accepts no sessions, and those that it runs are moved to other workers."""

    def __init__(
        self,
        name: str,
        make_worker: MakeWorker,
        owner: WorkerOwner,
        spare: Spare,
        metrics: Metrics,
        restart_limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.ready: WorkerReady | None = None
        self.capacity: Capacity | None = None
        self.given_up = self.draining = False
        self.left = False  # it is not part of the cluster any more, and not waited for
        self.others = 0  # sessions that other gateways have there
        self.start_took_s = 0.0
        self.health = Health(clock())
        self._make_worker, self._owner, self._spare = make_worker, owner, spare
        self._metrics, self._limit, self._clock = metrics, restart_limit, clock
        self._worker: Worker | None = None
        self._number = 0  # identifies the current worker: events of others are ignored
        self._tasks = Tasks()
        self._attempts, self._restarting, self._closing = 0, False, False
        self._later_s = 0.0
        self._started_s = 0.0
        self._fault: str | None = "the model is being loaded"  # why no worker is running
        metrics.worker_expected(name)

    @property
    def fault(self) -> str | None:
        """Why no worker is running, or why the running one is unusable now. None if all is well."""
        return self._fault or self.health.fault(self._clock())

    @property
    def worker(self) -> Worker | None:
        """The current worker, or the last one."""
        return self._worker

    @property
    def frames_per_segment(self) -> int:
        """0 while no worker runs."""
        return self.ready.frames_per_segment if self.ready is not None else 0

    @property
    def orphans(self) -> tuple[Orphaned, ...]:
        """Sessions that it ran for a gateway that is gone, as of its start."""
        return getattr(self._worker, "orphans", ())

    @property
    def held(self) -> tuple[Fenced, ...]:
        """Sessions that it ran for other gateways, as of its start."""
        return getattr(self._worker, "held", ())

    @property
    def outlives_gateway(self) -> bool:
        return getattr(self._worker, "outlives_gateway", False)

    @property
    def accepts(self) -> bool:
        """Whether it accepts new sessions: it runs, has no fault and is not draining."""
        return self.ready is not None and not self.draining and self.fault is None

    @property
    def restarting(self) -> bool:
        return self._restarting

    @property
    def uptime_s(self) -> float:
        """How long the current worker has been running."""
        return self._clock() - self._started_s

    @property
    def back_in_s(self) -> float:
        """How many seconds a replacement of this worker would take."""
        return RESTORE_S + (0.0 if self._spare.loaded else self.start_took_s)

    async def start(self) -> None:
        """Start a worker. Raises its PsistreamError if it fails to start."""
        began_s = self._clock()
        self._number += 1
        self._worker = self._make_worker(partial(self._receive, self._number))
        ready = await self._worker.start()
        self.start_took_s = self._clock() - began_s
        await self._up(self._worker, ready)

    async def _up(self, worker: Worker, ready: WorkerReady) -> None:
        self._worker, self.ready, self._fault = worker, ready, None
        self._started_s = self._clock()
        self.health.started(self._started_s)
        self._metrics.worker(self.name, ready)
        await self._owner.worker_up(self)
        self._spare.prepare(worker)

    async def _take_spare(self) -> None:
        """Let the spare worker take over, if there is one."""
        standby = await self._spare.take()
        if standby is None:
            return
        old, self._number = self._worker, self._number + 1
        standby.redirect(partial(self._receive, self._number))
        await self._up(standby.worker, standby.ready)
        log.warning("%s: the spare worker has taken over", self.name)
        if old is not None:
            self._tasks.spawn(old.close(), "close-old-worker")

    async def close(self) -> None:
        """Idempotent."""
        self._closing = True
        self._fault = LEFT if self.left else STOPPING
        await self._tasks.close()
        await self._spare.close()
        if self._worker is not None:
            await self._worker.close()

    def forget(self) -> None:
        """It has left, and no figures of it are of use."""
        self._metrics.worker_gone(self.name)

    def send(self, command: Order) -> None:
        """Raises Unavailable."""
        if self._worker is None or self.ready is None:
            raise Unavailable(self._fault or NOT_RUNNING)
        self._worker.send(command)

    def try_send(self, command: Order) -> None:
        """Send a command that may be lost: the next worker receives the same information anyway."""
        with contextlib.suppress(Unavailable):
            self.send(command)

    def try_again(self, why: str) -> None:
        """The first start failed: keep trying."""
        log.error("%s: %s; trying again", self.name, why)
        self._fault = why
        self._begin_restart()

    def begin(self) -> None:
        """Start it in the background, and keep trying."""
        self._tasks.spawn(self._begin(), "start-worker")

    async def _begin(self) -> None:
        try:
            await self.start()
        except PsistreamError as error:
            self._number += 1
            self.ready = None
            self.try_again(error.message)

    def may_wait(self) -> None:
        """Its sessions have gone on elsewhere, so its successor need not start while they are restored."""
        self._later_s = LATER_S

    def excuse(self) -> None:
        """The latest death was not its own fault: it does not count towards giving up."""
        self._attempts = max(0, self._attempts - 1)

    def replace(self, why: str) -> None:
        """Replace a worker that runs but is unusable. Its events are ignored from now on."""
        if self.ready is not None:
            self._lose(why)

    def _receive(self, number: int, event: Event) -> None:
        if number != self._number:
            return
        self.health.alive()
        if isinstance(event, WorkerLost):
            self._lose(event.message)
        elif not isinstance(event, Alive):
            self.health.news(self._clock())
            self._owner.worker_event(self, event)

    def _lose(self, why: str) -> None:
        self._number += 1
        if self.uptime_s > HEALTHY_S:
            self._attempts = 0
        another = self._attempts < self._limit and not self._closing
        then = "; connecting again" if self.outlives_gateway else "; starting another worker"
        self._log("%s: %s%s", self.name, why, then if another else "", extra=about(self.name))
        self.ready, self.capacity, self._fault = None, None, why
        self.others = 0
        self._metrics.worker_up.labels(self.name).set(0)
        self._owner.worker_lost(self)
        self.health.started(self._clock())
        self._begin_restart()

    @property
    def _log(self) -> Callable[..., None]:
        """A worker that is drained is about to be stopped: that is no error."""
        return log.warning if self.draining else log.error

    def _begin_restart(self) -> None:
        if not self._closing and not self._restarting:
            self._restarting = True
            self._tasks.spawn(self._restart(), "restart-worker")

    async def _restart(self) -> None:
        told: str | None = None  # a worker elsewhere is tried for ever, and may have the same fault for ever
        try:
            if self._attempts < self._limit and self._spare.coming:
                self._attempts += 1
                self._metrics.restarts.labels(self.name).inc()
                with contextlib.suppress(PsistreamError):  # unusable: start another one
                    await self._take_spare()
                if self.ready is not None:
                    return
            while self._attempts < self._limit:
                later_s, self._later_s = self._later_s, 0.0
                await asyncio.sleep(restart_delay_s(self._attempts) + later_s)
                self._attempts += 1
                if not self.outlives_gateway:
                    self._metrics.restarts.labels(self.name).inc()
                if self._worker is not None:
                    await self._worker.close()
                try:
                    await self.start()
                except PsistreamError as error:
                    self._number += 1
                    how = "used" if self.outlives_gateway else "restarted"
                    self.ready, self._fault = None, f"the worker could not be {how}: {error.message}"
                    self._owner.worker_lost(self)
                    if self._fault != told:
                        self._log("%s: %s", self.name, self._fault, extra=about(self.name))
                    told = self._fault
                if self.ready is not None:  # it may have died while its sessions were being opened
                    if self.outlives_gateway:  # many tries to connect may have replaced nothing
                        self._metrics.restarts.labels(self.name).inc()
                    log.warning("%s: a worker is running again", self.name, extra=about(self.name))
                    return
            self._fault = f"{self._fault}; gave up after {self._attempts} restarts: start psistream again"
            self.given_up = True
            log.error("%s: %s", self.name, self._fault)
            self._owner.worker_given_up(self)
        finally:
            self._restarting = False
