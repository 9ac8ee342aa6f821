"""Failover: keeps sessions alive when their worker is lost, and restores them in another one.

A session continues in any other worker that has capacity for it in real time. Otherwise its place is kept and
it waits for the successor of the lost worker.

Viewers stay connected. They see the last picture until the video continues from the latest snapshot, with the
same id, tokens and media clock.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from engine.errors import Unavailable
from engine.types import Action, Control, ControlBody, Pause, Receipt, Stall
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.probation import MAX_BLAME, is_suspect, judge, on_trial, release
from server.gateway.fleet.supervisor import HEALTHY_S, Supervisor
from server.gateway.records.records import Records
from server.gateway.registry import Sessions
from server.gateway.session import INTERNAL, GatewaySession
from server.metrics import Metrics
from server.worker.base import Numbers, RestoreSession
from server.worker.epochs import copied
from server.worker.messages.commands import CloseSession, Command, SubmitControl
from server.worker.messages.holding import ClaimSession

ELSEWHERE_S = 0.3  # how long a session takes to continue in a worker that is already running
CULPRIT = "workers died again and again while they ran this session, and it alone; open another one"
GAVE_UP = "this session could not be restored after its worker was lost; open it again"
NOT_OPENED = "the worker was lost before this session was opened; try again in a moment"
SUPERSEDED = "the worker was replaced before this control took effect, and newer controls supersede it"


class Failover:
    """`idle_grace_s` is how long a worker keeps generating an unwatched session."""

    def __init__(
        self, sessions: Sessions, fleet: Fleet, records: Records, metrics: Metrics, idle_grace_s: float
    ) -> None:
        self._sessions, self._fleet, self._records, self._metrics = sessions, fleet, records, metrics
        self._grace_s = idle_grace_s
        self._told: dict[str, Stall] = {}  # stalls announced here, since the worker itself could not

    def worker_fault(self, worker: Supervisor, back_in_s: float | None) -> None:
        """Announce the stalls that a worker's fault causes. Call it every second. `back_in_s` is when
        stalled sessions continue at the latest; None means that the worker has no fault."""
        now_s = self._sessions.now_s()
        for session in self._sessions.of(worker.name):
            waits = session.opened.done() and not (session.asleep or session.orphaned or session.throttled)
            known = self._told.pop(session.id, None)
            if back_in_s is not None and waits and (known is not None or now_s >= session.fine_until_s):
                self._told[session.id] = _stall(session, back_in_s)
                session.stall(self._told[session.id], now_s)
            elif known is not None and session.buffering is known:
                session.fine_until_s = now_s  # the announced stall no longer excuses a late segment
                session.stall(None, now_s)
            else:
                continue
            if known is None or session.buffering is None:
                self._sessions.announce(session)

    def worker_lost(self, worker: Supervisor) -> None:
        """The worker is gone. Its sessions continue in other workers at once, as far as those have
        capacity."""
        near = self._fleet.other_worker(worker.name) is not None
        silent = worker.outlives_gateway and worker.health.unresponsive is not None  # perhaps the network
        lost = [] if silent else [s for s in self._sessions.of(worker.name) if not s.orphaned]
        tried = [s for s in lost if is_suspect(s) and self._on_trial(s)]
        for session in self._sessions.of(worker.name):
            self._told.pop(session.id, None)
            if session.closing:
                self._fleet.ending.closed(session)
                self._sessions.end(session, "closed", "the session was closed")
            else:
                self._lose(session, ELSEWHERE_S if near else worker.back_in_s, blameless=silent)
        if judge([session for session in lost if session.orphaned], tried):
            worker.excuse()
        for session in tried:
            if session.blame >= MAX_BLAME:
                self._sessions.end(session, "worker_lost", CULPRIT)
        self.restore_all()
        if near and not worker.outlives_gateway and not self._sessions.of(worker.name):
            worker.may_wait()

    def restore_all(self) -> None:
        """Restore orphaned sessions, watched ones first, as far as workers accept them. The others wait for
        the next call."""
        some = [session for session in self._sessions if session.orphaned or is_suspect(session)]
        if any(session.held for session in some):
            release(some, self._sessions.now_s())
        orphans = [session for session in some if session.orphaned and not session.held]
        stuck: set[str] = set()  # workers whose sessions find no other one now
        for session in sorted(orphans, key=lambda s: not s.viewers):
            if session.worker in stuck:
                continue
            worker = self._next_worker(session)
            if worker is None:
                stuck.add(session.worker)
                continue
            with suppress(Unavailable):
                self.restore(session, worker)

    def give_up(self, worker: Supervisor) -> None:
        """The worker will not be replaced. Its sessions move to other workers, even beyond real-time
        capacity, and end only if no worker has a free place."""
        for session in self._sessions.of(worker.name):
            other_worker = self._fleet.other_worker(worker.name, crowded=True)
            session.held = False
            try:
                if other_worker is None:
                    raise Unavailable(GAVE_UP)
                self.restore(session, other_worker)
            except Unavailable:
                self._sessions.end(session, "worker_lost", GAVE_UP)

    def played(self, session: GatewaySession) -> None:
        """A segment has started to play. If it is the first one since the worker was lost, the failover is
        complete."""
        over = self._told.pop(session.id, None) is not None
        now_s = self._sessions.now_s()
        if session.lost_s is not None and not session.orphaned:
            self._metrics.failover_s.observe(now_s - session.lost_s)
            session.lost_s, over = None, True
        if over and session.buffering is not None and not session.throttled:
            session.stall(None, now_s)
            self._sessions.announce(session)

    def _next_worker(self, session: GatewaySession) -> Supervisor | None:
        """The worker to restore it in. Its own if that one is running again, since it has kept the place."""
        own = self._fleet.of(session)
        runs = own.ready is not None and own.health.unresponsive is None
        if runs and not own.draining:
            return own
        other = self._fleet.other_worker(session.worker, crowded=own.left)
        return other or (own if runs else None)

    def _lose(self, session: GatewaySession, back_in_s: float, *, blameless: bool) -> None:
        now_s = self._sessions.now_s()
        lived_s = now_s - session.placed_s  # time on this worker, which may itself have run for longer
        if not session.opened.done():
            self._fleet.ending.not_needed(session)  # the worker may have opened it, and live on
            self._sessions.end(session, Unavailable.code, NOT_OPENED)
            return
        if session.handover is not None:  # a migration had just begun: close the session in the old worker
            self._fleet.named(session.handover.worker).try_send(CloseSession(session.id))
            session.handover.arrived.set()
            session.handover = None
        if not session.orphaned:
            session.seen_more = blameless or session.elsewhere > 0
            if lived_s > HEALTHY_S:
                session.failovers = session.blame = 0
            session.failovers += not blameless and self._suspect(session, lived_s)
        session.orphaned = True
        session.lost_s = now_s if session.lost_s is None else session.lost_s
        if not session.info.paused:
            session.stall(_stall(session, back_in_s), now_s)
        self._sessions.announce(session)

    def _on_trial(self, session: GatewaySession) -> bool:
        now_s = self._sessions.now_s()
        return on_trial(session, now_s) and self._suspect(session, now_s - session.placed_s)

    def _suspect(self, session: GatewaySession, lived_s: float) -> bool:
        """Whether the session was generating when the worker died, so that it may be the cause. An unwatched
        session keeps generating for the grace period after it was opened, steered or left, and after each
        failover. Generation after a failover counts only against sessions that were suspected before,
        otherwise idle sessions would be blamed for crashes they did not cause."""
        if session.info.paused or session.throttled:
            return False
        idle_s = lived_s if session.failovers else self._sessions.now_s() - session.used_s
        return bool(session.viewers) or idle_s < self._grace_s

    def restore(self, session: GatewaySession, worker: Supervisor) -> None:
        """Continue an orphaned session in this worker. Raises Unavailable."""
        now_s, ready = self._sessions.now_s(), worker.ready
        numbers = session.progress.interrupted(now_s)
        if session.seen_more and ready is not None:
            plays = ready.frames_per_segment, ready.fps
            numbers = session.progress.beyond(now_s, session.placed_s, *plays)
        self.reopen_in(session, worker, numbers)
        session.progress.parted(now_s, numbers.frame)
        self._metrics.resumed.inc()

    def resume(self, session: GatewaySession, worker: Supervisor, epoch: int) -> None:
        """Continue a session that its worker has been running all the time. Raises Unavailable."""
        session.lease_epoch = max(session.lease_epoch + 1, epoch)
        worker.send(ClaimSession(session.id, session.lease_epoch))
        worker.send(session.audience())
        for control in session.recovery.since():  # what it has had already is answered again, not done again
            worker.send(SubmitControl(session.id, control))
        session.orphaned, session.resuming, session.stats = False, True, None
        if not session.viewers:
            session.lost_s = None
            session.stall(None, self._sessions.now_s())

    def reopen_in(
        self, session: GatewaySession, worker: Supervisor, numbers: Numbers, starts_in_s: float = 0.0
    ) -> None:
        """Assign the session to this worker and send everything it needs to continue with these numbers. The
        next picture is shown in `starts_in_s` seconds at the earliest. Raises Unavailable."""
        command = session.recovery.reopening(session.id)
        if command is None:
            self._sessions.end(session, "worker_lost", GAVE_UP)
            return
        own: list[ControlBody] = [Action(session.info.action)] if session.info.action is not None else []
        own += [Pause()] if session.info.paused else []
        internal = [Control(f"{INTERNAL}{secrets.token_hex(8)}", body) for body in own]
        since = session.recovery.since()
        controls = [SubmitControl(session.id, control) for control in internal + since]
        then: tuple[Command, ...] = (session.audience(), *controls)
        epoch = copied(session.lease_epoch)
        worker.send(RestoreSession(command, then, starts_in_s, epoch, numbers))
        session.lease_epoch = epoch
        self._fleet.ending.known.forget(session.id)
        self._sessions.assign(session, worker.name)
        session.recovery.reopened()
        session.internal.update(control.id for control in internal)
        session.orphaned, session.stats = False, None
        self._records.anew(session, worker)
        if not session.viewers:  # nobody is watching
            session.lost_s = None
            session.stall(None, self._sessions.now_s())
        self._reject_forgotten(session, {control.id for control in since})

    def _reject_forgotten(self, session: GatewaySession, kept: set[str]) -> None:
        """Reject controls that were received but never took effect, and that are not submitted again."""
        pending = [name for name, answer in session.answers.items() if answer.status == "received"]
        for name in pending:
            if name not in kept:
                receipt = Receipt(session.id, name, "rejected", code="superseded", message=SUPERSEDED)
                session.recovery.answered(receipt)
                self._sessions.answer(session, receipt)


def _stall(session: GatewaySession, for_s: float) -> Stall:
    return Stall(session.stats.speed if session.stats else 1.0, 1.0, for_s)
