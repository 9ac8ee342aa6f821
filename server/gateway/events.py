"""What the worker says → sessions, figures and whoever listens. The gateway's ear.

It knows no commands and starts nothing; events of sessions that are gone are ignored. On the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.errors import Full
from engine.types import Capacity, Receipt, SessionClosed, SessionInfo
from server.gateway.exports import Exports
from server.gateway.listeners import Listeners
from server.gateway.session import Session
from server.gateway.worker_health import Health
from server.metrics import Metrics
from server.worker.base import Alive, Applied, Event, as_error
from server.worker.messages import Exported, Hung, Packet, SegmentStats, Stalled, WorkerReady


class Hearing:
    """`end(session, code, message)` is called for a session that the worker has closed, `on_played` when a
    segment begins to be shown."""

    def __init__(
        self,
        sessions: Mapping[str, Session],
        listeners: Listeners,
        metrics: Metrics,
        clock: Callable[[], float],
        ready: Callable[[], WorkerReady | None],
        end: Callable[[Session, str, str], None],
        on_played: Callable[[Session, SegmentStats], None],
    ) -> None:
        self._sessions, self._listeners, self._metrics = sessions, listeners, metrics
        self._clock, self._ready, self._end = clock, ready, end
        self._on_played = on_played
        self.health = Health(clock())
        self.exports = Exports()
        self.capacity: Capacity | None = None

    def __call__(self, event: Event) -> None:
        self.health.alive()
        if isinstance(event, Alive):
            return
        self.health.news(self._clock())
        match event:
            case Applied(receipt, pts_90k):
                self._receipt(receipt, pts_90k)
            case Receipt():
                self._receipt(event, None)
            case SessionInfo():
                self._told(event)
            case SessionClosed():
                self._closed(event)
            case SegmentStats():
                self._played(event)
            case Stalled():
                self._stands(event)
            case Packet():
                self._packet(event)
            case Exported():
                self.exports.answered(event)
            case Capacity():
                self.capacity = event
                self._metrics.capacity_is(event)
            case Hung():
                before = self.health.hangs_total
                self.health.told(event, self._clock())
                self._metrics.hangs.inc(self.health.hangs_total - before)

    def tell(self, session: Session) -> None:
        """How it is now, to whoever listens."""
        self._listeners.tell(session.current(self._clock()))

    def count(self) -> None:
        """After sessions came, went, stood or went on."""
        ready, number = self._ready(), len(self._sessions)
        self._metrics.sessions.set(number)
        self._metrics.buffering.set(sum(s.buffering is not None for s in self._sessions.values()))
        self._metrics.slots_free.set(max(0, (ready.max_sessions if ready else 0) - number))

    def _receipt(self, receipt: Receipt, pts_90k: int | None) -> None:
        session = self._sessions.get(receipt.session)
        if session is None or session.away:
            return
        receipt = session.numbers.receipt(receipt)
        session.keepsake.answered(receipt)
        if receipt.id in session.quiet:
            session.quiet.discard(receipt.id)
            return
        known = session.answers.get(receipt.id)
        if known is not None and known.status != "received":
            return  # it was submitted again to a new worker, and answered before
        session.remember(receipt)
        placed = None if pts_90k is None else session.numbers.pts(pts_90k)
        if placed is not None and receipt.frame is not None:
            session.remember_time(receipt.frame, placed)
        since_s = session.received_s.pop(receipt.id, None)
        self._metrics.receipt(receipt, None if since_s is None else self._clock() - since_s)
        self._listeners.tell(receipt)

    def _closed(self, event: SessionClosed) -> None:
        session = self._sessions.get(event.session)
        if session is None:
            return
        if not session.opened.done():
            error = as_error(event.code, event.message)
            error.field = event.field
            if isinstance(error, Full) and event.retry_after_s is not None:
                error.retry_after_s = event.retry_after_s
            session.refused(error)
        self._end(session, event.code, event.message)

    def _told(self, info: SessionInfo) -> None:
        if session := self._sessions.get(info.id):
            session.told(session.numbers.info(info), self._clock())
            self.tell(session)

    def _played(self, stats: SegmentStats) -> None:
        session, ready = self._sessions.get(stats.session), self._ready()
        if session is None:
            return
        plays_s = ready.frames_per_segment / ready.fps if ready else 0.0
        stats = session.numbers.stats(stats, ready.frames_per_segment if ready else 0)
        late, dropped = session.played(stats, self._clock(), plays_s)
        self._metrics.segment(stats, late, dropped)
        self._listeners.tell(stats)
        self._on_played(session, stats)

    def _packet(self, packet: Packet) -> None:
        self._metrics.encoded.labels(packet.codec).inc()
        if session := self._sessions.get(packet.session):
            self._metrics.sent.inc(session.fanout.push(session.numbers.packet(packet, self._clock())))

    def _stands(self, event: Stalled) -> None:
        session = self._sessions.get(event.session)
        if session is not None and not session.held:  # of that the worker knows nothing
            session.stands(event.stall, self._clock())
            self.count()
            self.tell(session)
