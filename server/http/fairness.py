"""Shares of the event loop: how many requests a client may send, and how often it may guess tokens.

A client is identified by its session if it sends a valid token, otherwise by its address. A client that
exceeds its share is answered late, so that the refusals themselves cost almost nothing. Pure ASGI; the only
routes it knows are those for health.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http.auth import bearer, client_name
from server.http.limited_protocol import OPS_PATHS
from server.http.problems import problem
from server.ratelimit import TokenBuckets

REQUESTS_PER_S, REQUESTS_BURST = 300.0, 1000
GUESSES_PER_S, GUESSES_BURST = 0.5, 10
DELAY_S = 1.0  # delay of a refusal
MAX_DELAYED = 64  # delayed refusals at a time; more are answered immediately


class Fairness:
    """`known` returns the owner of a token: the name of a session or of the server's key; None if invalid."""

    def __init__(
        self,
        app: ASGIApp,
        known: Callable[[str], str | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._known, self._clock = app, known, clock
        self._requests = TokenBuckets(REQUESTS_PER_S, REQUESTS_BURST)
        self._guesses = TokenBuckets(GUESSES_PER_S, GUESSES_BURST)
        self._delayed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPS_PATHS:
            await self._app(scope, receive, send)
            return
        now_s = self._clock()
        token = bearer(Headers(scope=scope).get("authorization"))
        address = client_name(scope["client"][0] if scope["client"] else None)
        name = self._known(token) if token else None
        bucket = self._requests.bucket(name or address, now_s)
        if not bucket.allow(now_s):
            await self._refuse("too many requests", bucket.wait_s(now_s), scope, receive, send)
            return
        if not token or name is not None:
            await self._app(scope, receive, send)
            return
        guesses = self._guesses.bucket(address, now_s)
        if guesses.wait_s(now_s) > 0:
            await self._refuse("too many wrong tokens", guesses.wait_s(now_s), scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                guesses.allow(now_s)
            await send(message)

        await self._app(scope, receive, count)

    async def _refuse(self, what: str, wait_s: float, scope: Scope, receive: Receive, send: Send) -> None:
        if self._delayed < MAX_DELAYED:
            self._delayed += 1
            try:
                await asyncio.sleep(DELAY_S)
            finally:
                self._delayed -= 1
        headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
        await problem(429, "rate_limited", f"{what}: wait a moment", headers=headers)(scope, receive, send)
