"""Steers one session without end, and notes for each prompt how it was answered and whether it took effect.

A prompt keeps its id until its final receipt is there, however often it must be sent: that is what a client
is told to do, and what makes it safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.server.probe import PROMPTS
from benchmarks.server.reader import Reader
from clients.http import http_client

PATIENCE_S = 60.0  # for a final receipt, and for the prompt to be that of the session
AGAIN_S, REQUEST_S = 0.5, 5.0


@dataclass
class SentPrompt:
    id: str
    text: str
    sent_s: float
    status: str = "sent"  # received, applied, rejected
    code: str | None = None
    settled_s: float | None = None
    in_effect: bool = False


class Prompter:
    """`run` ends when `stop` is set and the last prompt is settled or lost."""

    def __init__(self, reader: Reader, every_s: float) -> None:
        self.reader, self._every_s = reader, every_s
        self.prompts: list[SentPrompt] = []
        self.stop = asyncio.Event()

    async def run(self) -> None:
        target = self.reader.target
        async with http_client(target.base, REQUEST_S) as http:
            http.headers.update(target.headers)
            while not (self.stop.is_set() or self.reader.ended.is_set()):
                number = len(self.prompts)
                sent = SentPrompt(f"p{number}", PROMPTS[number % len(PROMPTS)], time.perf_counter())
                self.prompts.append(sent)
                await self._settle(http, sent)
                if sent.status == "applied":
                    await self._take_effect(http, sent)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), self._every_s)

    async def _settle(self, http: httpx.AsyncClient, sent: SentPrompt) -> None:
        """Send it again until there is a final receipt."""
        told = self.reader.seen.answers
        while time.perf_counter() - sent.sent_s < PATIENCE_S and not self.reader.ended.is_set():
            answer = await self._ask(http, "POST", "/controls", sent)
            if sent.id in told:
                answer = told[sent.id][0]
            sent.status, sent.code = str(answer.get("status", sent.status)), answer.get("code")
            if sent.status == "applied" or (sent.status == "rejected" and sent.code != "unavailable"):
                sent.settled_s = time.perf_counter()
                return
            await asyncio.sleep(AGAIN_S)

    async def _take_effect(self, http: httpx.AsyncClient, sent: SentPrompt) -> None:
        """Wait until the session says that this is its prompt: after a failover it may take a moment."""
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < PATIENCE_S and not self.reader.ended.is_set():
            if (await self._ask(http, "GET", "")).get("prompt") == sent.text:
                sent.in_effect = True
                return
            await asyncio.sleep(AGAIN_S)

    async def _ask(
        self, http: httpx.AsyncClient, method: str, path: str, sent: SentPrompt | None = None
    ) -> dict[str, Any]:
        """The answer; empty if there is none, or an error."""
        body = None if sent is None else {"type": "prompt", "id": sent.id, "text": sent.text}
        with contextlib.suppress(httpx.HTTPError, json.JSONDecodeError):
            answer = await http.request(method, self.reader.target.path + path, json=body)
            found = answer.json()
            if isinstance(found, dict) and (answer.is_success or "status" in found):
                return found
        return {}
