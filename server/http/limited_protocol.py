"""One HTTP connection with limits: what it waits for, since when, and how it is refused or closed.

The rules are in server.http.connections; this module knows uvicorn's protocol and h11.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from h11 import CLOSED, DONE, SEND_BODY, LocalProtocolError
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.http.auth import client_name
from server.http.problems import MEDIA_TYPE, RETRY_UNAVAILABLE_S, problem

OPS_PATHS = ("/livez", "/readyz", "/healthz", "/metrics")
OPS_REQUESTS = tuple(f"GET {path} ".encode() for path in OPS_PATHS)
MAX_HELD_BYTES = 64 * 1024
MAX_DISCARDED_BYTES = 256 * 1024  # of a body whose response was sent before its end


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on open connections, and on the seconds that one may take for each part of a request."""

    most: int = 256
    reserve: int = 32  # beyond `most`, for OPS_PATHS only
    per_address: int = 64  # does not apply to trusted proxies and this machine
    headers_s: float = 10.0  # from the connection, or the last response, to the end of the next headers
    body_s: float = 30.0  # routes have a stricter limit; this one applies if no route reads the body
    unread_s: float = 20.0  # without the client reading any of its response
    per_s: float = 50.0  # new connections of one address whose requests are handled at once; more are delayed
    burst: int = 100


class Register(Protocol):
    """Decides about this connection and the others: server.http.connections.Connections."""

    limits: ConnectionLimits
    clock: Callable[[], float]

    def opened(self, connection: LimitedProtocol) -> None: ...

    def closed(self, connection: LimitedProtocol) -> None: ...

    def admit(self, connection: LimitedProtocol) -> bool: ...


class LimitedProtocol(H11Protocol):
    """One connection. `since_s` is the start of its current wait."""

    def __init__(self, connections: Register, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self.address = ""
        self.since_s = connections.clock()
        self.served = False  # one of its requests has been answered
        self._phase: tuple[object, bool] = (None, False)
        self._begun = False  # its first request may be handled
        self._held_back = b""  # received data, until then
        self._discarded = 0
        self._unsent = 0
        self._read_s = self.since_s  # when the client last read part of its response

    # ---- what it waits for ----

    @property
    def waits_for_client(self) -> bool:
        """Whether it waits for a request's headers or the rest of its body; otherwise the server is
        responding."""
        return self._idle or self.cycle.more_body

    def overdue(self, now_s: float) -> str | None:
        """Why it has timed out; empty if it has not."""
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
        """Respond without having read a request, and close."""
        self.transport.write(_raw_problem(status, code, message))
        self.transport.close()

    def give_up(self, why: str) -> None:
        """Close the connection at once. A client in the middle of a request is told why."""
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
        if not self._begun:
            if self._held_back:
                self._held_back += data
                if len(self._held_back) > MAX_HELD_BYTES:
                    self.refuse(429, "rate_limited", "too many connections: wait a moment")
                return
            if not data.startswith(OPS_REQUESTS) and not self._connections.admit(self):
                self._held_back = data
                return
            self._begun = True
        if self._discards(len(data)):
            self.transport.close()
            return
        super().data_received(data)
        self._note_phase()

    def _discards(self, size: int) -> bool:
        """Whether more of a body arrived after its response than can have been in flight by then."""
        answered = self.conn.our_state is DONE and self.conn.their_state is SEND_BODY
        self._discarded = self._discarded + size if answered else 0
        return self._discarded > MAX_DISCARDED_BYTES

    @property
    def gone(self) -> bool:
        return self.transport.is_closing() or self.conn.our_state is CLOSED

    def begin(self) -> None:
        """Handle the data that was held back."""
        self._begun, data, self._held_back = True, self._held_back, b""
        super().data_received(data)
        self._note_phase()

    def on_response_complete(self) -> None:
        self.served = True
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


class OpsOnly:
    """Answers health and metrics and refuses everything else: for the places reserved for them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPS_PATHS:
            await self._app(scope, receive, send)
            return
        headers = {"Retry-After": str(RETRY_UNAVAILABLE_S), "Connection": "close"}
        message = "all connections are in use: try again in a moment"
        await problem(503, "full", message, headers=headers)(scope, receive, send)


def _raw_problem(status: int, code: str, message: str) -> bytes:
    """A response for a connection without a complete request."""
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
