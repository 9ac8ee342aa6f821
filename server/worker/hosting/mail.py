"""Who hears what: events of the worker as a whole go to all its gateways, those of a session to its owner and
its guests, and video to those of them that watch it.

`emit` is called from any thread and never waits. It starts nothing and knows no sockets but the connections
that it was given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace

from engine.types import Capacity, Receipt, SessionClosed, SessionInfo
from server.ladder import rendition
from server.worker.base import Applied, Event, Order, WorkerLost, session_of
from server.worker.contexts import CLOCK_RATE
from server.worker.hosting.leases import Lease, Leases
from server.worker.messages.commands import RequestKeyframe
from server.worker.messages.events import Exported, Packet, SegmentStats, Stalled
from server.worker.messages.holding import Claimed, Watched
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
        self.now_s = clock
        self.gateways: tuple[Connection, ...] = ()  # other threads send to them
        self.lock = threading.Lock()
        self.leases = Leases()
        self.waiting: dict[str, list[Order]] = {}  # until an older session of that name has ended
        self.capacity: Capacity | None = None

    def emit(self, event: Event) -> None:
        session = session_of(event)
        if session is None:
            self._to_all(event)
        elif isinstance(event, Packet):
            self._video(event)
        else:
            self._to_those(session, event)

    def watched(self, lease: Lease) -> Watched | None:
        """What guests are told of a session; None until it is open."""
        if lease.info is None:
            return None
        info = replace(lease.info, buffering=lease.stall_at(self._clock()))
        return Watched(lease.session, lease.epoch, info, lease.record)

    def claimed(self, lease: Lease) -> Claimed:
        """What a gateway is told that holds the session now."""
        claimed = Claimed(lease.session, lease.epoch, lease.info, lease.record)
        if (shown := lease.shown) is None:
            return claimed
        since_90k = round((self._clock() - lease.shown_s) * CLOCK_RATE)
        return replace(claimed, segment=shown.segment, frame=shown.frame, media_90k=shown.pts_90k + since_90k)

    def _to_all(self, event: Event) -> None:
        data = encode(event, self._clock())
        for gateway in self.gateways:
            gateway.post(data)
        if isinstance(event, Capacity):
            self.capacity = event
        elif isinstance(event, WorkerLost):
            self._on_lost(event.message)

    def _video(self, packet: Packet) -> None:
        """Encoded once for all gateways that watch it."""
        name = rendition(packet.codec, packet.rung)
        with self.lock:
            lease = None if packet.session in self.waiting else self.leases.get(packet.session)
            watchers = connections(lease.watchers(name)) if lease is not None else []
        if not watchers:
            return
        data, stream = encode(packet, self._clock()), f"{packet.session} {name}"
        taken = [gateway.post_video(data, stream, keyframe=packet.keyframe) for gateway in watchers]
        if not all(taken):
            self._on_order(RequestKeyframe(packet.session, name))

    def _to_those(self, session: str, event: Event) -> None:
        with self.lock:
            lease = self.leases.get(session)
            if session in self.waiting:  # what an older copy says, which is to end
                if isinstance(event, SessionClosed):
                    for order in self.waiting.pop(session):
                        self._on_order(order)
                return
            if isinstance(event, SessionClosed):
                self.leases.end(session)
                event = event if lease is None else replace(event, epoch=lease.epoch)
            if lease is None:
                return
            hearers = connections([lease.owner])
            if not hearers and isinstance(event, Receipt | Applied):
                lease.missed.append(event)
            # also those that are silent: receipts must not be lost
            guests = [] if isinstance(event, Exported) else connections(lease.guests)
            first = lease.info is None and isinstance(event, SessionInfo)
            awaited = False
            if isinstance(event, SessionInfo):
                lease.info = event
                awaited, lease.awaited = lease.awaited, False
            elif isinstance(event, SegmentStats):
                lease.shown, lease.shown_s = event, self._clock()
            elif isinstance(event, Stalled):
                lease.stall, lease.stalled_s = event.stall, self._clock()
        if first and (watched := self.watched(lease)) is not None:  # they asked before it was open
            for guest in guests:
                guest.post(encode(watched, self._clock()), session)
        if awaited and lease.info is not None:
            for owner in hearers:
                owner.post(encode(self.claimed(lease), self._clock()), session)
        if not hearers and not guests:
            return
        data = encode(event, self._clock())
        for gateway in (*hearers, *guests):
            gateway.post(data, session)
            if isinstance(event, SessionClosed):
                gateway.outbox.forget(session)


def connections(gateways: Iterable[Hashable | None]) -> list[Connection]:
    return [gateway for gateway in gateways if isinstance(gateway, Connection)]
