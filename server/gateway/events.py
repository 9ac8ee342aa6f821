"""What the worker reports → sessions, figures and listeners.

It sends no commands. Events of sessions that are gone are ignored. Everything runs on the event loop.
"""

from __future__ import annotations

from engine.errors import Full
from engine.types import Capacity, Receipt, SessionClosed, SessionInfo
from server.gateway.exports import Exports
from server.gateway.failover import Failover
from server.gateway.registry import Sessions
from server.gateway.supervisor import Supervisor
from server.gateway.throttle import Throttle
from server.metrics import Metrics
from server.worker.base import Applied, Event, as_error
from server.worker.messages import Exported, Hung, Packet, SegmentStats, Stalled


class Events:
    """`capacity` is what the worker reported of itself last."""

    def __init__(
        self,
        sessions: Sessions,
        supervisor: Supervisor,
        exports: Exports,
        throttle: Throttle,
        failover: Failover,
        metrics: Metrics,
    ) -> None:
        self._sessions, self._supervisor, self._exports = sessions, supervisor, exports
        self._throttle, self._failover, self._metrics = throttle, failover, metrics
        self.capacity: Capacity | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Applied(receipt, pts_90k):
                self._receipt(receipt, pts_90k)
            case Receipt():
                self._receipt(event, None)
            case SessionInfo():
                self._changed(event)
            case SessionClosed():
                self._closed(event)
            case SegmentStats():
                self._played(event)
            case Stalled():
                self._stalled(event)
            case Packet():
                self._packet(event)
            case Exported():
                self._exports.answered(event)
            case Capacity():
                self.capacity = event
                self._metrics.capacity_is(event)
            case Hung():
                if self._supervisor.health.hang(event, self._sessions.now_s()):
                    self._metrics.hangs.inc()

    def _receipt(self, receipt: Receipt, pts_90k: int | None) -> None:
        session = self._sessions.get(receipt.session)
        if session is None or session.away:
            return
        receipt = session.numbers.receipt(receipt)
        session.recovery.answered(receipt)
        if receipt.id in session.internal:
            session.internal.discard(receipt.id)
            return
        shown_90k = None if pts_90k is None else session.numbers.pts(pts_90k)
        if shown_90k is not None and receipt.frame is not None:
            session.remember_time(receipt.frame, shown_90k)
        self._sessions.answer(session, receipt)

    def _closed(self, event: SessionClosed) -> None:
        session = self._sessions.get(event.session)
        if session is None:
            return
        if not session.opened.done():
            error = as_error(event.code, event.message)
            error.field = event.field
            if isinstance(error, Full) and event.retry_after_s is not None:
                error.retry_after_s = event.retry_after_s
            session.refuse(error)
        self._sessions.end(session, event.code, event.message)

    def _changed(self, info: SessionInfo) -> None:
        if session := self._sessions.get(info.id):
            session.changed(session.numbers.info(info), self._sessions.now_s())
            self._sessions.tell(session)

    def _played(self, stats: SegmentStats) -> None:
        session, ready = self._sessions.get(stats.session), self._supervisor.ready
        if session is None:
            return
        plays_s = ready.frames_per_segment / ready.fps if ready else 0.0
        stats = session.numbers.stats(stats, ready.frames_per_segment if ready else 0)
        late, dropped = session.played(stats, self._sessions.now_s(), plays_s)
        self._metrics.segment(stats, late, dropped)
        self._sessions.publish(stats)
        self._throttle.charge(session, stats)
        self._failover.played(session)

    def _packet(self, packet: Packet) -> None:
        self._metrics.encoded.labels(packet.codec).inc()
        if session := self._sessions.get(packet.session):
            numbered = session.numbers.packet(packet, self._sessions.now_s())
            self._metrics.sent.inc(session.fanout.push(numbered))

    def _stalled(self, event: Stalled) -> None:
        session = self._sessions.get(event.session)
        if session is not None and not session.throttled:  # the worker doesn't know about shares
            session.stall(event.stall, self._sessions.now_s())
            self._sessions.count()
            self._sessions.tell(session)
