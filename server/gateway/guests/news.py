"""Applies what workers report about other gateways' sessions to the guests here.

A guest is where its worker says that it is: one that has moved, or whose worker is lost, is followed to the
worker that runs it with a higher epoch. Everything here runs on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.types import Receipt, SessionClosed, SessionInfo, Stall
from server.cluster.peers import MOVED
from server.control.base import Steering
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.guests.desk import GuestDesk
from server.gateway.guests.guest import Guest, go_on_without
from server.gateway.guests.guests import Guests
from server.gateway.registry import Sessions
from server.gateway.session import INTERNAL, Handover
from server.metrics import Metrics
from server.worker.base import Applied, Event, session_of
from server.worker.epochs import CLOSED
from server.worker.messages.commands import SubmitControl
from server.worker.messages.events import Packet, SegmentStats, Stalled
from server.worker.messages.holding import (
    Answered,
    EndCopy,
    Fenced,
    LeaveSession,
    Moved,
    Orphaned,
    OtherViewers,
    Watched,
)

LOST_S = 30.0  # a session whose worker is lost is looked for so long
MOVED_S = 5.0
BACK = "another copy of the session goes on, from before what was shown: join again"
GONE = "the session's worker was lost, and it was not restored in time"


class GuestNews:
    """`steering` steers the gateway's own sessions; `claim` claims one that nobody holds: see Adoption."""

    def __init__(
        self,
        guests: Guests,
        sessions: Sessions,
        steering: Steering,
        metrics: Metrics,
        claim: Callable[[Supervisor, Orphaned], None],
    ) -> None:
        self._guests, self._sessions, self._metrics, self._claim = guests, sessions, metrics, claim
        self._desk = GuestDesk(steering, sessions)

    def __call__(self, worker: Supervisor, event: Event) -> bool:
        """Returns False if this is neither for a guest nor from one."""
        session_id = session_of(event)
        guest = self._guests.of(session_id)
        if guest is None:
            if isinstance(event, Watched):  # too late
                worker.try_send(LeaveSession(event.session))
                return True
            return self._desk(worker, event)
        if isinstance(event, Packet):
            left = guest.moved is not None and guest.worker is worker and event.segment > guest.moved.segment
            if not left and guest.worker is worker and guest.goes_back(worker.name, event):
                self._guests.end(guest, MOVED, BACK, guest.session.lost_frames)
                return True
            frames, now_s = worker.frames_per_segment, self._sessions.now_s()
            if not left and guest.session.shows(worker.name, event, frames, now_s):
                guest.shown = worker.name, event.frame, event.pts_90k
                self._metrics.sent.inc(guest.session.fanout.push(event))
            return True
        match event:
            case Watched():
                self._watched(worker, guest, event)
            case SessionClosed():
                self._closed(worker, guest, event)
            case Orphaned():
                self._orphaned(worker, guest, event)
            case Fenced():
                self._held(worker, guest, event)
                return False
            case _ if guest.worker is worker:
                return self._told(worker, guest, event)
            case _:
                return isinstance(event, Receipt | Applied | SessionInfo | SegmentStats | Stalled)
        return True

    def worker_lost(self, worker: Supervisor) -> None:
        for guest in self._guests.all():
            guest.asked.discard(worker.name)
            guest.news.set()
            left = guest.session.handover
            if left is not None and left.worker == worker.name:
                guest.session.handover = None
            if guest.worker is worker:
                self._guests.lost(guest, LOST_S, "worker_lost", GONE)

    def _told(self, worker: Supervisor, guest: Guest, event: Event) -> bool:
        session, now_s = guest.session, self._sessions.now_s()
        match event:
            case Applied(receipt, pts_90k):
                self._receipt(guest, receipt, pts_90k)
            case Receipt():
                self._receipt(guest, event, None)
            case Answered(receipt=receipt):
                if receipt.id in guest.pending:
                    self._receipt(guest, receipt, None)
            case SessionInfo():
                session.progress.info(event)
                session.changed(event, now_s)
                self._guests.announce(guest)
            case SegmentStats():
                session.progress.stats(event, worker.frames_per_segment, now_s)
                session.played(event, now_s, worker.ready.segment_s if worker.ready else 0.0)
                self._sessions.publish(event, guest=True)
            case Stalled(stall=stall):
                session.stall(stall, now_s)
                self._guests.announce(guest)
            case OtherViewers(count=count):
                session.elsewhere = count
                self._guests.announce(guest)
            case Moved():
                guest.moved, guest.least_epoch = event, event.epoch
                self._guests.search.begin(guest, MOVED_S)
            case _:
                return False
        return True

    def _receipt(self, guest: Guest, receipt: Receipt, pts_90k: int | None) -> None:
        session = guest.session
        guest.pending.pop(receipt.id, None)
        known = session.answers.get(receipt.id)
        if (known is not None and known.status != "received") or receipt.id.startswith(INTERNAL):
            return
        if pts_90k is not None and receipt.frame is not None:
            session.remember_time(receipt.frame, pts_90k)
        session.remember(receipt)
        since_s = session.received_s.pop(receipt.id, None)
        if since_s is not None:
            self._metrics.receipt(receipt, self._sessions.now_s() - since_s)
        self._sessions.publish(receipt, guest=True)

    def _watched(self, worker: Supervisor, guest: Guest, event: Watched) -> None:
        session, before = guest.session, guest.worker
        here, elsewhere = guest.worker is worker, guest.worker not in (None, worker)
        least = max(guest.least_epoch, session.lease_epoch + elsewhere)
        if not here and guest.known and event.epoch < least:
            worker.try_send(LeaveSession(event.session))
        else:
            again = here and event.epoch == session.lease_epoch
            if here and event.epoch >= guest.least_epoch:  # it has moved back, or not at all
                guest.moved = None
            if here and not again:  # another gateway has claimed it
                session.progress.parted(self._sessions.now_s())
            for receipt in self._guests.learn(guest, event.info, event.record):
                self._receipt(guest, receipt, None)
            session.lease_epoch = event.epoch
            if not here:
                self._follow(worker, guest, event.info.buffering)
                if guest.abandoned and before is not None:
                    before.try_send(EndCopy(session.id, event.epoch))
            if not again:
                guest.abandoned = False
                for control in guest.pending.values():  # what the owner has had, it doesn't do again
                    worker.try_send(SubmitControl(session.id, control, event.epoch))
        guest.asked.discard(worker.name)
        guest.news.set()

    def _follow(self, worker: Supervisor, guest: Guest, stall: Stall | None) -> None:
        """This worker runs the session now."""
        session, now_s = guest.session, self._sessions.now_s()
        if guest.worker is not None:
            if guest.moved is not None:  # the old one plays its segment to its end
                session.handover = Handover(session.worker, guest.moved.segment)
            else:
                self._guests.leave(guest)
        session.assigned(worker.name, now_s)
        session.stats, guest.moved = None, None
        if guest.dropped:
            go_on_without(session, session.apart)
            guest.dropped = False
        session.stall(stall, now_s)
        guest.worker, guest.known = worker, True
        guest.settled.set()
        self._guests.announce(guest)

    def _closed(self, worker: Supervisor, guest: Guest, event: SessionClosed) -> None:
        session, left = guest.session, guest.session.handover
        if worker.name in guest.asked:
            guest.asked.discard(worker.name)
            guest.why = guest.why if guest.known else (event.code, event.message)
        elif left is not None and left.worker == worker.name:
            session.handover = None
        elif guest.worker is worker and not 0 < event.epoch < session.lease_epoch:
            # whoever holds it may have dropped an old copy of it here
            guest.dropped = True
            self._guests.lost(guest, 0.0, event.code, event.message)
        guest.news.set()

    def _orphaned(self, worker: Supervisor, guest: Guest, event: Orphaned) -> None:
        """Nobody holds what this worker runs."""
        session = guest.session
        if guest.worker not in (None, worker) and event.epoch < session.lease_epoch:
            worker.try_send(EndCopy(session.id, session.lease_epoch))
        else:
            guest.abandoned = guest.abandoned or guest.worker is worker
            self._guests.search.newer(guest, event.epoch, lambda: self._unless_held(worker, event))

    def _held(self, worker: Supervisor, guest: Guest, event: Fenced) -> None:
        """Another gateway holds it in this worker: again, or in place of one that is out of its reach."""
        if guest.worker is worker:
            guest.abandoned = False
        elif guest.abandoned and guest.session.lease_epoch < event.epoch < CLOSED:
            guest.least_epoch = max(guest.least_epoch, event.epoch)
            self._guests.search.begin(guest, LOST_S)

    def _unless_held(self, worker: Supervisor, event: Orphaned) -> None:
        if event.session not in self._sessions:
            self._claim(worker, event)
