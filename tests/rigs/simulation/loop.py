"""An event loop without time: it jumps to the next timer, so that minutes pass in milliseconds.

What it runs belongs to pretended processes, each with a context of its own: one can be stopped, as by
SIGSTOP, or killed. The order of events depends on nothing but the seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any
from weakref import WeakValueDictionary

EPOCH_S = 1.8e9  # Unix time when a history begins, about
PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Process:
    """`ahead_s`: how far its monotonic clock is ahead of the loop's, since no two hosts' clocks agree."""

    def __init__(self, name: str, loop: VirtualLoop, ahead_s: float) -> None:
        self.name, self._loop, self._ahead_s = name, loop, ahead_s
        self.stopped = self.dead = False
        self._held: list[asyncio.Handle] = []
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)

    def clock(self) -> float:
        return self._loop.time() + self._ahead_s

    def wall_clock(self) -> float:
        return EPOCH_S + self._loop.time()

    @property
    def halted(self) -> bool:
        return self.stopped or self.dead

    def hold(self, handle: asyncio.Handle) -> None:
        """It is to be run, and must not be now. What a dead process would do is kept too, until the end: its
        tasks would complain if they were forgotten."""
        self._held.append(handle)

    def go_on(self) -> None:
        """After a stop; or at the end, so that its tasks can be cancelled."""
        self.stopped = self.dead = False
        self._loop.ready.extend(self._held)
        self._held.clear()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        return self._loop.create_task(work, name=name, context=self.context.copy())


class VirtualLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as gateways and workers use. `errors` are of callbacks that failed."""

    def __init__(self) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self.errors: list[dict[str, Any]] = []
        self.connect: Callable[..., Coroutine[Any, Any, Any]] | None = None
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._now_s = 1000.0
        self._tasks: WeakValueDictionary[int, asyncio.Task[Any]] = WeakValueDictionary()  # as they were made

    # ---- asyncio's interface ----

    def time(self) -> float:
        return self._now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[next(self._numbers)] = task
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """At once: there are no threads."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    async def create_connection(self, make: Any, host: Any = None, port: Any = None, **_: Any) -> Any:  # type: ignore[override]
        assert self.connect is not None
        return await self.connect(make, host, port)

    # ---- running ----

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Tasks, in the order in which they were made."""
        return [task for _, task in sorted(self._tasks.items()) if not task.done()]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run until this work is done, and return its result."""
        events._set_running_loop(self)
        try:
            task = self.create_task(work, name="simulation")
            while not task.done():
                self._step()
            return task.result()
        finally:
            events._set_running_loop(None)

    def _step(self) -> None:
        if not self.ready:
            while self._timers[0][2].cancelled():
                heapq.heappop(self._timers)
            self._now_s, _, timer = heapq.heappop(self._timers)
            self.ready.append(timer)
            return
        handle = self.ready.popleft()
        if handle.cancelled():
            return
        process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is not None and process.halted:
            process.hold(handle)
        else:
            handle._run()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Whoever rolls the module's dice, too."""
    before = random.getstate()
    random.seed(f"{seed} dice")
    try:
        yield
    finally:
        random.setstate(before)
