"""What the worker says → sessions, figures and whoever listens. The gateway's ear.

It knows no commands and starts nothing; events of sessions that are gone are ignored. On the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.types import Packet, Receipt, SegmentStats, SessionClosed, SessionInfo, Stands, WorkerReady
from server.listeners import Listeners
from server.metrics import Metrics
from server.session import Session
from server.worker.base import Applied, Event


class Hearing:
    """`end(session, code, message)` is called for a session that the worker has closed."""

    def __init__(
        self,
        sessions: Mapping[str, Session],
        listeners: Listeners,
        metrics: Metrics,
        clock: Callable[[], float],
        ready: Callable[[], WorkerReady | None],
        end: Callable[[Session, str, str], None],
    ) -> None:
        self._sessions, self._listeners, self._metrics = sessions, listeners, metrics
        self._clock, self._ready, self._end = clock, ready, end

    def __call__(self, event: Event) -> None:
        match event:
            case Applied(receipt, pts_90k):
                self._receipt(receipt, pts_90k)
            case Receipt():
                self._receipt(event, None)
            case SessionInfo():
                self._told(event)
            case SessionClosed(session, code, message):
                if session in self._sessions:
                    self._end(self._sessions[session], code, message)
            case SegmentStats():
                self._played(event)
            case Stands():
                self._stands(event)
            case Packet():
                self._metrics.encoded.labels(event.codec).inc()
                if session_ := self._sessions.get(event.session):
                    self._metrics.sent.inc(session_.fanout.push(event))

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
        if session is None:
            return
        session.remember(receipt)
        if pts_90k is not None and receipt.frame is not None:
            session.remember_time(receipt.frame, pts_90k)
        since_s = session.received_s.pop(receipt.id, None)
        self._metrics.receipt(receipt, None if since_s is None else self._clock() - since_s)
        self._listeners.tell(receipt)

    def _told(self, info: SessionInfo) -> None:
        if session := self._sessions.get(info.id):
            session.told(info, self._clock())
            self.tell(session)

    def _played(self, stats: SegmentStats) -> None:
        session, ready = self._sessions.get(stats.session), self._ready()
        if session is None:
            return
        plays_s = ready.frames_per_segment / ready.fps if ready else 0.0
        late, dropped = session.played(stats, self._clock(), plays_s)
        self._metrics.segment(stats, late, dropped)
        self._listeners.tell(stats)

    def _stands(self, event: Stands) -> None:
        if session := self._sessions.get(event.session):
            session.stands(event.buffering, self._clock())
            self.count()
            self.tell(session)
