"""Requests to a worker that have one answer: a session's snapshot, or its control log.

A request fails when its session or its worker ends, or when it times out.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from typing import Literal

from engine.errors import PsistreamError, Unavailable, UnknownSession
from engine.types import SessionClosed
from server.control.base import SessionEvent
from server.gateway.fleet.fleet import Fleet
from server.gateway.registry import Sessions
from server.worker.base import NOT_RUNNING, as_error
from server.worker.messages.commands import ExportSession
from server.worker.messages.events import Exported

EXPORT_TIMEOUT_S = 10.0


class Exports:
    """`len` is the number of pending requests."""

    def __init__(self, sessions: Sessions, fleet: Fleet) -> None:
        self._sessions, self._fleet = sessions, fleet
        self._numbers = itertools.count(1)
        self._pending: dict[str, tuple[str, asyncio.Future[Exported]]] = {}
        sessions.listen(self._session_ended)

    def __len__(self) -> int:
        return len(self._pending)

    async def ask(self, session_id: str, what: Literal["snapshot", "log"], rewind_s: float = 0.0) -> bytes:
        """The session as it is on the screen, or was `rewind_s` seconds ago (safetensors), or its control log
        (JSON Lines). Raises UnknownSession, Unavailable, BackendError."""
        return (await self.take(session_id, what, rewind_s)).data or b""

    async def take(
        self, session_id: str, what: Literal["snapshot", "log"], rewind_s: float = 0.0
    ) -> Exported:
        """Like `ask`, but return the worker's whole answer; `data` is not None. Raises the same errors."""
        session = self._sessions.find(session_id)
        worker = self._fleet.of(session)
        ready = worker.ready
        if session.orphaned or ready is None or worker.health.unresponsive is not None:
            raise Unavailable(worker.fault or NOT_RUNNING)
        request = f"x{next(self._numbers)}"
        answer: asyncio.Future[Exported] = asyncio.get_running_loop().create_future()
        self._pending[request] = session_id, answer
        try:
            worker.send(ExportSession(session_id, request, what, rewind_s))
            async with asyncio.timeout(EXPORT_TIMEOUT_S + ready.segment_ms / 1000):
                return await answer
        except TimeoutError:
            raise Unavailable("the worker did not answer; try again in a moment") from None
        finally:
            self._pending.pop(request, None)

    def answered(self, event: Exported) -> None:
        """Resolve the request that this answers. If it is no longer pending, the answer is dropped."""
        _, answer = self._pending.get(event.request, (None, None))
        if answer is None or answer.done():
            return
        if event.data is None:
            answer.set_exception(as_error(event.code or "backend", event.message or "no answer"))
        else:
            answer.set_result(event)

    def fail(self, error: PsistreamError, sessions: Collection[str] | None = None) -> None:
        """Fail the pending requests about these sessions, or all of them (None)."""
        for about, answer in self._pending.values():
            if (sessions is None or about in sessions) and not answer.done():
                answer.set_exception(error)

    def _session_ended(self, event: SessionEvent) -> None:
        if isinstance(event, SessionClosed):
            self.fail(UnknownSession("the session has ended", field="session"), [event.session])
