"""Who hears what: events of the worker as a whole go to all its gateways, those of a session to its owner.

`emit` is called from any thread and never waits. It starts nothing and knows no sockets but the connections
that it was given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.types import Capacity, SessionClosed, SessionInfo
from server.ladder import rendition
from server.worker.base import Event, Order, WorkerLost, session_of
from server.worker.hosting.leases import Leases
from server.worker.messages import Packet, RequestKeyframe
from server.worker.wire.codec import encode
from server.worker.wire.connection import Connection


class Mail:
    """`lock` guards the leases, which other threads read; `capacity` is what the engine told last."""

    def __init__(
        self,
        clock: Callable[[], float],
        on_order: Callable[[Order], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._clock, self._on_order, self._on_lost = clock, on_order, on_lost
        self.gateways: set[Connection] = set()  # replaced as a whole, never changed
        self.lock = threading.Lock()
        self.leases = Leases()
        self.waiting: dict[str, list[Order]] = {}  # until an older session of that name has ended
        self.capacity: Capacity | None = None

    def emit(self, event: Event) -> None:
        session = session_of(event)
        if session is None:
            self._to_all(event)
            return
        if (owner := self._owner(session, event)) is None:
            return
        data = encode(event, self._clock())
        if not isinstance(event, Packet):
            owner.post(data, session)
            return
        name = rendition(event.codec, event.rung)
        if not owner.post_video(data, f"{session} {name}", keyframe=event.keyframe):
            self._on_order(RequestKeyframe(session, name))

    def _to_all(self, event: Event) -> None:
        data = encode(event, self._clock())
        for gateway in self.gateways:
            gateway.post(data)
        if isinstance(event, Capacity):
            self.capacity = event
        elif isinstance(event, WorkerLost):
            self._on_lost(event.message)

    def _owner(self, session: str, event: Event) -> Connection | None:
        """The gateway that is to hear this event."""
        with self.lock:
            lease = self.leases.get(session)
            if isinstance(event, SessionClosed):
                if session in self.waiting:
                    for order in self.waiting.pop(session):
                        self._on_order(order)
                    return None
                self.leases.end(session)
            if lease is None:
                return None
            if isinstance(event, SessionInfo):
                lease.info = event
            owner = lease.owner if not lease.stage else None
        if not isinstance(owner, Connection):
            return None
        if isinstance(event, SessionClosed):
            owner.outbox.forget(session)
        return owner
