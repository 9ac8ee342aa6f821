"""Applies what workers report to sessions and metrics, and passes it to listeners.

Events about sessions that have ended, or that another worker runs now, are ignored. It sends no commands.
Everything runs on the event loop.
"""

from __future__ import annotations

import contextlib

from engine.errors import Full, Unavailable
from engine.types import Capacity, Receipt, SessionClosed, SessionInfo
from server.gateway.adoption import Adoption
from server.gateway.exporting.exports import Exports
from server.gateway.exporting.snapshots import Snapshots
from server.gateway.failover import Failover
from server.gateway.fleet.encoders import Encoders
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.gateway.throttle import Throttle
from server.metrics import Metrics
from server.worker.base import Applied, Event, as_error
from server.worker.messages.events import CodecMeasured, Exported, Hung, Packet, SegmentStats, Stalled
from server.worker.messages.holding import Claimed, Fenced, Orphaned

GUEST_CODES = ("unknown_session", "full")  # of a worker that refuses to show a session to a guest


class Events:
    def __init__(
        self,
        sessions: Sessions,
        exports: Exports,
        snapshots: Snapshots,
        throttle: Throttle,
        failover: Failover,
        adoption: Adoption,
        encoders: Encoders,
        metrics: Metrics,
    ) -> None:
        self._sessions, self._exports = sessions, exports
        self._snapshots, self._throttle, self._failover = snapshots, throttle, failover
        self._adoption, self._encoders, self._metrics = adoption, encoders, metrics

    def __call__(self, worker: Supervisor, event: Event) -> None:
        match event:
            case Applied(receipt, pts_90k):
                self._receipt(worker, receipt, pts_90k)
            case Receipt():
                self._receipt(worker, event, None)
            case SessionInfo():
                self._changed(worker, event)
            case SessionClosed():
                self._closed(worker, event)
            case SegmentStats():
                self._played(worker, event)
            case Stalled():
                self._stalled(worker, event)
            case Packet():
                self._packet(worker, event)
            case Exported():
                self._exports.answered(event)
            case Orphaned():
                self._adoption.orphaned(worker, event)
            case Claimed():
                self._adoption.claimed(worker, event)
            case Fenced():
                self._adoption.fenced(worker, event)
            case CodecMeasured():
                self._encoders.measured(worker, event)
            case Capacity():
                worker.capacity = event
                if worker.outlives_gateway:
                    worker.others = max(0, event.open - self._sessions.count(worker.name))
                self._metrics.capacity_is(worker.name, event)
            case Hung():
                if worker.health.hang(event, self._sessions.now_s()):
                    self._metrics.hangs.labels(worker.name).inc()

    def _session(self, worker: Supervisor, session_id: str) -> GatewaySession | None:
        """The session, if this worker runs it."""
        session = self._sessions.get(session_id)
        return session if session is not None and session.worker == worker.name else None

    def _receipt(self, worker: Supervisor, receipt: Receipt, pts_90k: int | None) -> None:
        session = self._session(worker, receipt.session)
        if session is None or session.orphaned:
            return
        session.recovery.answered(receipt)
        if receipt.id in session.internal:
            session.internal.discard(receipt.id)
            return
        if pts_90k is not None and receipt.frame is not None:
            session.remember_time(receipt.frame, pts_90k)
        self._sessions.answer(session, receipt)

    def _closed(self, worker: Supervisor, event: SessionClosed) -> None:
        session = self._session(worker, event.session)
        if session is None or 0 < event.epoch < session.lease_epoch:  # an older copy
            return
        if session.resuming:  # it has ended there meanwhile
            session.resuming = False
            with contextlib.suppress(Unavailable):
                self._failover.restore(session, worker)
                return
        if not session.opened.done():
            error = as_error(event.code, event.message)
            error.field = event.field
            if isinstance(error, Full) and event.retry_after_s is not None:
                error.retry_after_s = event.retry_after_s
            session.declined(error)  # the opener may try another worker
            return
        if worker.outlives_gateway and not event.epoch and event.code in GUEST_CODES:
            return  # asked as a guest, before it came here: an end has the copy's epoch
        self._sessions.end(session, event.code, event.message)

    def _changed(self, worker: Supervisor, info: SessionInfo) -> None:
        if session := self._session(worker, info.id):
            session.progress.info(info)
            session.changed(info, self._sessions.now_s())
            self._sessions.announce(session)

    def _played(self, worker: Supervisor, stats: SegmentStats) -> None:
        session, now_s = self._session(worker, stats.session), self._sessions.now_s()
        if session is None:
            return
        session.progress.stats(stats, worker.frames_per_segment, now_s)
        session.arrived()
        late, dropped = session.played(stats, now_s, worker.ready.segment_s if worker.ready else 0.0)
        self._metrics.segment(stats, late, dropped)
        self._sessions.publish(stats)
        self._throttle.charge(session, stats)
        self._failover.played(session)
        self._snapshots.consider(session)

    def _packet(self, worker: Supervisor, packet: Packet) -> None:
        self._metrics.encoded.labels(packet.codec).inc()
        if (session := self._sessions.get(packet.session)) is None:
            return
        if session.shows(worker.name, packet, worker.frames_per_segment, self._sessions.now_s()):
            self._metrics.sent.inc(session.fanout.push(packet))

    def _stalled(self, worker: Supervisor, event: Stalled) -> None:
        session = self._session(worker, event.session)
        if session is not None and not session.throttled:  # Throttle announces these stalls itself
            session.stall(event.stall, self._sessions.now_s())
            self._sessions.announce(session)
