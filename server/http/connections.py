"""TCP connections of the HTTP listener: time limits, shares per address, and who gives way when it is full.

uvicorn has no time limit for headers, bodies or unread answers, and closes to everybody once its limit of
connections is reached. Here connections that wait for their client give way, the oldest first, so silent
clients shut nobody out; and the last places are for health and metrics.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from h11 import LocalProtocolError
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.http.auth import client_name
from server.http.problems import MEDIA_TYPE, RETRY_UNAVAILABLE_S, problem

log = logging.getLogger(__name__)

OPS_PATHS = ("/livez", "/readyz", "/healthz", "/metrics")
SWEEP_S = 0.5


@dataclass(frozen=True)
class ConnectionLimits:
    """Counts of open connections, and seconds that one may take for each part of a request."""

    most: int = 256
    reserve: int = 32  # beyond `most`, for OPS_PATHS only
    per_address: int = 64  # not of proxies that are trusted, nor of this machine
    headers_s: float = 10.0  # from the connection, or the last answer, to the end of the next headers
    body_s: float = 30.0  # routes have a stricter limit; this one holds where no route reads the body
    unread_s: float = 20.0  # without the client reading anything of its answer


class Connections:
    """All open connections of one listener. `sweep` closes those whose time is over; call it often."""

    def __init__(
        self,
        limits: ConnectionLimits,
        trusted: list[str] | str = "127.0.0.1",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self.clock = limits, clock
        self.evicted = self.refused = self.timed_out = 0
        self._trusted = ProxyHeadersMiddleware(_nothing, trusted).trusted_hosts
        self._open: dict[LimitedProtocol, None] = {}  # in the order of their opening

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[LimitedProtocol]:
        return iter(list(self._open))

    def protocol(self, *args: Any, **kwargs: Any) -> LimitedProtocol:
        """What uvicorn calls for each connection (its setting `http`)."""
        return LimitedProtocol(self, *args, **kwargs)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def opened(self, connection: LimitedProtocol) -> None:
        """Make room for it, or limit it to OPS_PATHS, or refuse it."""
        limits, address = self.limits, connection.address
        if not self._exempt(connection):
            own = [each for each in self._open if each.address == address]
            if len(own) >= limits.per_address and not self._evict(own):
                self.refused += 1
                message = f"one address may have {limits.per_address} connections: close one, or reuse it"
                connection.refuse(429, "too_many_connections", message)
                return
        if len(self._open) >= limits.most and not self._evict(self._fullest()):
            if len(self._open) >= limits.most + limits.reserve:
                self.refused += 1
                connection.refuse(503, "full", "all connections are in use: try again in a moment")
                return
            connection.app = _OpsOnly(connection.app)
        self._open[connection] = None

    def closed(self, connection: LimitedProtocol) -> None:
        self._open.pop(connection, None)

    def sweep(self) -> None:
        now_s = self.clock()
        for connection in self:
            why = connection.overdue(now_s)
            if why is not None:
                self.timed_out += 1
                connection.give_up(why)

    def _evict(self, candidates: list[LimitedProtocol]) -> bool:
        """Close the one that has waited longest for its client. False where all wait for the server."""
        waiting = [c for c in candidates if c.waits_for_client and not c.transport.is_closing()]
        if not waiting:
            return any(c.transport.is_closing() for c in candidates)
        oldest = min(waiting, key=lambda c: c.since_s)
        self.evicted += 1
        oldest.give_up("other clients need this connection: open it again when you send a request")
        return True

    def _fullest(self) -> list[LimitedProtocol]:
        """Connections of the address that has most among those that wait for their client."""
        waiting = [c for c in self._open if c.waits_for_client]
        counts = Counter(c.address for c in waiting)
        if not counts:
            return []
        most = counts.most_common(1)[0][0]
        return [c for c in waiting if c.address == most]

    def _exempt(self, connection: LimitedProtocol) -> bool:
        host = connection.client[0] if connection.client else ""
        return host in self._trusted or host.startswith("127.") or host == "::1"


class LimitedProtocol(H11Protocol):
    """One connection. `since_s` is when it began to wait for what it waits for now."""

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self.address = ""
        self.since_s = connections.clock()
        self._phase: tuple[object, bool] = (None, False)
        self._unsent = 0
        self._read_s = self.since_s  # when the client last read something of its answer

    # ---- what it waits for ----

    @property
    def waits_for_client(self) -> bool:
        """For a request's headers or the rest of its body; else the server works on an answer."""
        return self._idle or self.cycle.more_body

    def overdue(self, now_s: float) -> str | None:
        """Why its time is over."""
        limits = self._connections.limits
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent or not unsent:
            self._unsent, self._read_s = unsent, now_s
        if now_s - self._read_s > limits.unread_s:
            return f"the answer was not read for {limits.unread_s:.0f} s"
        if self._idle and now_s - self.since_s > limits.headers_s:
            return f"no complete request came within {limits.headers_s:.0f} s"
        if not self._idle and self.cycle.more_body and now_s - self.since_s > limits.body_s:
            return f"the body did not come within {limits.body_s:.0f} s"
        return None

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _note_phase(self) -> None:
        phase = (None if self._idle else self.cycle, not self._idle and self.cycle.more_body)
        if phase != self._phase:
            self._phase, self.since_s = phase, self._connections.clock()

    # ---- how it ends ----

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answer without having read a request, and close."""
        self.transport.write(_raw_problem(status, code, message))
        self.transport.close()

    def give_up(self, why: str) -> None:
        """Close it at once. A client in the middle of a request is told why."""
        begun = bool(self.conn.trailing_data[0]) or not self._idle
        if begun and not (self.cycle and self.cycle.response_started and not self.cycle.response_complete):
            self.transport.write(_raw_problem(408, "timeout", why))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self._unsent:
            self.transport.abort()  # `close` would wait for a client that doesn't read
        else:
            self.transport.close()

    # ---- H11Protocol ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = client_name(self.client[0] if self.client else None)
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._note_phase()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note_phase()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_raw_problem(400, "invalid", "this is not a valid HTTP request"))
        self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        try:
            super().timeout_keep_alive_handler()
        except LocalProtocolError:  # a request has begun meanwhile
            self.transport.close()


class _OpsOnly:
    """Answers health and metrics, and refuses all else: for the places that are kept for them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPS_PATHS:
            await self._app(scope, receive, send)
            return
        headers = {"Retry-After": str(RETRY_UNAVAILABLE_S), "Connection": "close"}
        message = "all connections are in use: try again in a moment"
        await problem(503, "full", message, headers=headers)(scope, receive, send)


async def _nothing(*args: Any) -> None:
    """An application that is never called."""


def _raw_problem(status: int, code: str, message: str) -> bytes:
    """An answer to a connection that has no request to answer."""
    title = HTTPStatus(status).phrase
    body = json.dumps(
        {"title": title, "status": status, "code": code, "message": message, "field": None}
    ).encode()
    lines = [
        f"HTTP/1.1 {status} {title}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    lines += [f"Retry-After: {RETRY_UNAVAILABLE_S}"] if status in (429, 503) else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
