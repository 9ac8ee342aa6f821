"""Passes requests about a session on to the gateway that has it, so that any load balancer works.

A viewer is served by the gateway that it asks, if that one can; its own address belongs to that gateway. A
request that was passed on once is passed on no further. Pure ASGI; it knows which paths name a session, and
nothing else about routes.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.errors import Forbidden, Full
from engine.wire.parse import MAX_HTTP_MESSAGE_BYTES
from server.cluster.peers import Peers
from server.gateway.gateway import Gateway
from server.http.auth import client_name
from server.http.edge.forwarding import Forwarding, Unanswered
from server.http.edge.prefix import SCOPE_KEY
from server.http.edge.reach import PATH, Identity
from server.http.edge.vouching import HEADER, PASSED, ClocksDiffer, Passed, vouch, vouched
from server.http.problems import RateLimited, TooLarge, of_error, problem
from server.ratelimit import TokenBuckets

log = logging.getLogger(__name__)

SESSION = re.compile(r"/v1/sessions/([^/]+)(?:/.*)?", re.DOTALL)
VIEWER = re.compile(r"/v1/sessions/[^/]+/whep/([^/]+)", re.DOTALL)
WATCH = re.compile(r"/v1/sessions/([^/]+)/whep/?", re.DOTALL)
PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
RETRY_S = 1
PASSED_PER_S, PASSED_BURST = 100.0, 300  # of one address: to pass a request on costs more than to answer it
MAX_BODY_BYTES = 64 * 1024  # of all requests but controls, which may have a picture


class PassOn:
    """`gateway` is this server's; None before it has started."""

    def __init__(
        self,
        app: ASGIApp,
        gateway: Callable[[], Gateway | None],
        forwarding: Forwarding,
        identity: Identity,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app, self._gateway, self._forwarding, self._clock = app, gateway, forwarding, clock
        self._identity = identity
        self._dice = random.Random()
        self._rates = TokenBuckets(PASSED_PER_S, PASSED_BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway() if scope["type"] == "http" else None
        if gateway is None or not gateway.peers:
            await self._app(scope, receive, send)
            return
        header = Headers(scope=scope).get(HEADER)
        if header is not None:
            try:
                passed = vouched(gateway.peers.key, header, scope["method"], target_of(scope), self._clock())
            except (Forbidden, ClocksDiffer) as error:
                if isinstance(error, ClocksDiffer):
                    who = scope["client"][0] if scope["client"] else "unknown"
                    log.error("a request that the gateway at %s passed on is refused: %s", who, error.message)
                await of_error(error)(scope, receive, send)
                return
            if scope["path"] == PATH:
                await JSONResponse(self._identity.answer(scope["query_string"]))(scope, receive, send)
                return
            scope = {**scope, "client": (passed.client, 0), "scheme": passed.scheme, PASSED: True}
        owner = owner_of(gateway, scope["path"])
        if gateway.leaving and header is None and _wants_to_watch(scope):
            if others := list(gateway.peers.others.items()):
                await self._pass(gateway, *self._dice.choice(others), scope, receive, send)
            else:
                await _away(gateway.peers.name)(scope, receive, send)
        elif owner is None or await _watches(gateway, scope):
            await self._app(scope, receive, send)
        elif header is None and (url := gateway.peers.url_of(owner)) is not None:
            await self._pass(gateway, owner, url, scope, receive, send)
        else:
            await _away(owner)(scope, receive, send)

    async def _pass(
        self, gateway: Gateway, owner: str, url: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        peers, metrics = gateway.peers, gateway.metrics
        now_s, address = time.monotonic(), client_name(scope["client"][0] if scope["client"] else None)
        bucket = self._rates.bucket(address, now_s)
        if not bucket.allow(now_s):
            wait_s = bucket.wait_s(now_s)
            error = RateLimited("too many requests: wait a moment", retry_after_s=wait_s)
            await of_error(error)(scope, receive, send)
            return
        target = target_of(scope)
        passed = Passed(scope["client"][0] if scope["client"] else "unknown", scope["scheme"])
        extra = {HEADER: vouch(peers.key, passed, scope["method"], target, self._clock())}
        if prefix := scope.get(SCOPE_KEY):
            extra["x-forwarded-prefix"] = prefix
        try:
            await self._forwarding.aclose(but=peers.urls)
            gone = partial(_differ, peers, owner, url)
            most = MAX_HTTP_MESSAGE_BYTES if target.endswith(b"/controls") else MAX_BODY_BYTES
            await self._forwarding(url, target, extra, gone, most, scope, receive, send)
            metrics.passed_on.labels("answered").inc()
        except TooLarge as error:
            await of_error(error)(scope, receive, send)
        except Unanswered:
            metrics.passed_on.labels("unanswered").inc()
            await _away(owner)(scope, receive, send)


def owner_of(gateway: Gateway, path: str) -> str | None:
    """The other gateway that this path's session or viewer belongs to, or UNKNOWN; None for this one."""
    if viewer := VIEWER.fullmatch(path):
        return gateway.peers.gateway_of(viewer[1])
    session = SESSION.fullmatch(path)
    return gateway.owner_of(session[1]) if session else None


def _wants_to_watch(scope: Scope) -> re.Match[str] | None:
    return WATCH.fullmatch(scope["path"]) if scope["method"] == "POST" else None


async def _watches(gateway: Gateway, scope: Scope) -> bool:
    """Whether this is somebody who wants to watch another gateway's session that a worker of this gateway
    runs: then there is no need to go further."""
    watch = _wants_to_watch(scope)
    with contextlib.suppress(Full):
        return watch is not None and await gateway.guests.find(watch[1]) is not None
    return False


def target_of(scope: Scope) -> bytes:
    """Path and query of a request to another gateway, the same at both."""
    path, query = quote(scope["path"]).encode(), quote(scope["query_string"], PRINTABLE).encode()
    return path + b"?" + query if query else path


def _differ(peers: Peers, gateway: str, url: str) -> bool:
    return peers.url_of(gateway) != url


def _away(owner: str) -> Response:
    who = f"gateway {owner}, which has this session," if owner else "the gateway of this session"
    headers = {"Retry-After": str(RETRY_S)}
    return problem(503, "unavailable", f"{who} does not answer: try again in a moment", headers=headers)
