"""Questions to the worker that have one answer: a session's snapshot, or its log of controls.

An answer that never comes is forgotten with its session, its worker or its time. It knows no sessions.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Literal

from engine.errors import PsistreamError, Unavailable
from server.worker.base import as_error
from server.worker.messages import Command, Exported, ExportSession


class Exports:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[str, tuple[str, asyncio.Future[bytes]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(
        self,
        send: Callable[[Command], None],
        session: str,
        what: Literal["snapshot", "log"],
        within_s: float,
    ) -> bytes:
        """The answer. Raises the PsistreamError that prevented it."""
        request = f"x{next(self._numbers)}"
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[request] = session, answer
        try:
            send(ExportSession(session, request, what))
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError:
            raise Unavailable("the worker did not answer; try again in a moment") from None
        finally:
            self._waiting.pop(request, None)

    def answered(self, event: Exported) -> None:
        """What nobody waits for is dropped."""
        _, answer = self._waiting.get(event.request, (None, None))
        if answer is None or answer.done():
            return
        if event.data is None:
            answer.set_exception(as_error(event.code or "backend", event.message or "there is no answer"))
        else:
            answer.set_result(event.data)

    def fail(self, error: PsistreamError, session: str | None = None) -> None:
        """No answers will come: about this session, or about any."""
        for about, answer in self._waiting.values():
            if session in (None, about) and not answer.done():
                answer.set_exception(error)
