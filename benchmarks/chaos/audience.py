"""Sessions of a small cluster, each with a reader, steered all along."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Self

from benchmarks.chaos.prompter import Prompter, SentPrompt
from benchmarks.server.reader import Reader
from clients.http import http_client
from clients.target import Target

FLOWS = 8  # frames in the last second of a session that shows a picture
READY_S, CALM_S, REQUEST_S = 30.0, 2.0, 30.0
ASK_EVERY_S = 0.1


class Audience:
    """Use as `async with`. Entering opens the sessions and waits for their pictures; it raises ViewError and
    httpx.HTTPError."""

    def __init__(self, base: str, sessions: int, prompt_every_s: float) -> None:
        self._base, self._sessions, self._every_s = base, sessions, prompt_every_s
        self.readers: list[Reader] = []
        self.fps = 0
        self._steering: list[Prompter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._stack as stack:
            for target in await self._opened():
                reader = Reader(target)
                await stack.enter_async_context(reader)
                self.readers.append(reader)
                self._steering.append(Prompter(reader, self._every_s))
            for reader in self.readers:
                await reader.ready(READY_S)
            for each in self._steering:
                self._tasks.append(asyncio.create_task(each.run(), name="steering"))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def settle(self) -> None:
        """Steer no more, and wait for what is still to come: receipts, effects, and receipts that come twice.
        Raises what steering failed with."""
        for each in self._steering:
            each.stop.set()
        await asyncio.gather(*self._tasks)
        await asyncio.sleep(CALM_S)

    @property
    def prompts(self) -> list[SentPrompt]:
        return [prompt for each in self._steering for prompt in each.prompts]

    @property
    def lost(self) -> list[str]:
        """Why sessions have ended."""
        return [reader.end_reason for reader in self.readers if reader.ended.is_set()]

    def without_picture(self, since_s: float = 0.0) -> list[Reader]:
        """Those whose sessions don't flow now. `since_s` (time.perf_counter): older frames don't count."""
        now_s, silent = time.perf_counter(), []
        for reader in self.readers:
            latest = reader.seen.frames[-FLOWS:]
            if len(latest) < FLOWS or latest[0][0] < max(since_s, now_s - 1.0):
                silent.append(reader)
        return silent

    async def back(self, since_s: float, within_s: float) -> bool:
        """Wait until every session that has not ended flows again. Returns whether that came true."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not all(reader.ended.is_set() for reader in self.without_picture(since_s)):  # noqa: ASYNC110
                    await asyncio.sleep(ASK_EVERY_S)
                return True
        return False

    async def _opened(self) -> list[Target]:
        async with http_client(self._base, REQUEST_S) as http:
            found = []
            for number in range(self._sessions):
                answer = await http.post("v1/sessions", json={"prompt": "a dog", "seed": number})
                opened = answer.raise_for_status().json()
                self.fps = opened["model"]["fps"]
                found.append(Target(self._base, opened["id"], opened["token"]))
        return found
