"""The way into the server: who may open a session, and how one is opened, whatever it begins with.

Refusals come before anything costly: no worker, no place, no share left. What the device can bear is for the
worker to say. It knows no HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol

from engine.errors import Full, PsistreamError, Unavailable
from engine.types import ByteArray, OpenSession, Weighted
from server.gateway.budget import Budgets
from server.gateway.session import Session, unguessable
from server.gateway.supervisor import Supervisor
from server.metrics import Metrics
from server.worker.base import NOT_RUNNING
from server.worker.messages import WorkerReady

OPEN_TIMEOUT_S = 10.0

Words = str | tuple[Weighted, ...]


class Enter(Protocol):
    """Makes the gateway's side of a session; `main` is shared."""

    def __call__(self, command: OpenSession, *, shared: bool, client: str | None) -> Session: ...


class Opening:
    """`places` says how many are open; `end(session, code, message)` undoes `enter`, and `drop` tells the
    worker as well."""

    def __init__(
        self,
        supervisor: Supervisor,
        budgets: Budgets,
        metrics: Metrics,
        places: Callable[[], int],
        fault: Callable[[], str | None],
        enter: Enter,
        end: Callable[[Session, str, str], None],
        drop: Callable[[Session, str, str], None],
    ) -> None:
        self._supervisor, self._budgets, self._metrics = supervisor, budgets, metrics
        self._places, self._fault = places, fault
        self._enter, self._end, self._drop = enter, end, drop

    async def __call__(self, command: OpenSession, *, shared: bool, client: str | None) -> Session:
        """The session, once it is open. Raises Full, OverBudget, InvalidInput, Unavailable."""
        ready = self._admit(client)
        session = self._enter(command, shared=shared, client=client)
        try:
            self._supervisor.send(command)
            async with asyncio.timeout(OPEN_TIMEOUT_S + ready.segment_ms / 1000):
                await session.opened
        except TimeoutError:
            self._drop(session, "unavailable", "the worker did not answer")
            raise Unavailable("the worker did not answer; try again in a moment") from None
        except PsistreamError as error:
            if isinstance(error, Full):
                self._metrics.refused.labels("capacity").inc()
            self._end(session, error.code, error.message)
            raise
        except asyncio.CancelledError:
            self._drop(session, "closed", "nobody waits for it any more")
            raise
        return session

    def _admit(self, client: str | None) -> WorkerReady:
        ready, fault = self._supervisor.ready, self._fault()
        if ready is None or fault is not None:
            raise Unavailable(fault or NOT_RUNNING)
        if self._places() >= ready.max_sessions:
            self._metrics.refused.labels("sessions").inc()
            raise Full(f"all {ready.max_sessions} sessions are taken: try again later, or close one")
        try:
            self._budgets.enter(client)
        except Full:
            self._metrics.refused.labels("client").inc()
            raise
        return ready


def beginning(
    prompt: Words | None,
    seed: int | None,
    image: ByteArray | None,
    snapshot: bytes | None,
    fork_of: str | None,
    rewind_s: float,
    name: str | None,
) -> OpenSession:
    """With an id that nobody guesses, and a seed of its own where there is no past that has one."""
    if seed is None and snapshot is None and fork_of is None:
        seed = secrets.randbits(32)
    return OpenSession(name or unguessable(9), prompt, seed, image, snapshot, fork_of, rewind_s)
