"""TCP connections of the HTTP listener: time limits, shares per address, and eviction when it is full.

uvicorn has no time limit for headers, bodies or unread responses, and refuses everybody once its limit of
connections is reached. Here connections that wait for their client are evicted, oldest first, so silent
clients lock nobody out. The last places are reserved for health and metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from server.http.limited_protocol import ConnectionLimits, LimitedProtocol, OpsOnly
from server.ratelimit import TokenBuckets

SWEEP_S = 0.5
TURN_S = 0.02


class Connections:
    """All open connections of one listener. `sweep` closes those that timed out; call it often."""

    def __init__(
        self,
        limits: ConnectionLimits,
        trusted: list[str] | str = "127.0.0.1",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self.clock = limits, clock
        self.evicted = self.refused = self.timed_out = 0
        self._trusted = ProxyHeadersMiddleware(_nothing, trusted).trusted_hosts
        self._open: dict[LimitedProtocol, None] = {}  # oldest first
        self._rates = TokenBuckets(limits.per_s, limits.burst)
        self._queues: dict[str, deque[LimitedProtocol]] = {}  # connections whose first request is delayed

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[LimitedProtocol]:
        return iter(list(self._open))

    def protocol(self, *args: Any, **kwargs: Any) -> LimitedProtocol:
        """The factory that uvicorn calls for each connection (its setting `http`)."""
        return LimitedProtocol(self, *args, **kwargs)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def opened(self, connection: LimitedProtocol) -> None:
        """Make room for a new connection, or limit it to OPS_PATHS, or refuse it."""
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
            connection.app = OpsOnly(connection.app)
        self._open[connection] = None

    def admit(self, connection: LimitedProtocol) -> bool:
        """Whether a new connection's first request is handled now; otherwise `begin` is called when its turn
        comes. So clients that keep connecting and hang up before that cost almost nothing."""
        address = connection.address
        queue = self._queues.get(address)
        if not queue and self._rates.bucket(address, self.clock()).allow(self.clock()):
            return True
        if not self._queues:
            connection.loop.call_later(TURN_S, self._take_turns, connection.loop)
        self._queues.setdefault(address, deque()).append(connection)
        return False

    def _take_turns(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = self.clock()
        for address, queue in list(self._queues.items()):
            bucket = self._rates.bucket(address, now_s)
            while queue and (queue[0].gone or bucket.allow(now_s)):
                connection = queue.popleft()
                if not connection.gone:
                    connection.begin()
            if not queue:
                del self._queues[address]
        if self._queues:
            loop.call_later(TURN_S, self._take_turns, loop)

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
        """Close the connection that has waited longest for its client, preferring those that never sent a
        complete request. False if all are waiting for the server."""
        waiting = [c for c in candidates if c.waits_for_client and not c.transport.is_closing()]
        if not waiting:
            return any(c.transport.is_closing() for c in candidates)
        oldest = min(waiting, key=lambda c: (c.served, c.since_s))
        self.evicted += 1
        oldest.give_up("other clients need this connection: open it again when you send a request")
        return True

    def _fullest(self) -> list[LimitedProtocol]:
        """Of the connections that wait for their client, those of the address that has the most."""
        waiting = [c for c in self._open if c.waits_for_client]
        counts = Counter(c.address for c in waiting)
        if not counts:
            return []
        most = counts.most_common(1)[0][0]
        return [c for c in waiting if c.address == most]

    def _exempt(self, connection: LimitedProtocol) -> bool:
        host = connection.client[0] if connection.client else ""
        return host in self._trusted or host.startswith("127.") or host == "::1"


async def _nothing(*args: Any) -> None:
    """An application that is never called."""
