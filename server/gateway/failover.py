"""Sessions outlive their worker: what is told and kept when one is lost, and what is sent to the next.

They go on in any other worker that has room in real time; else their places are kept for the one that is
started instead.

Viewers stay connected and see the last picture until the video goes on from the latest snapshot, with the
same id, tokens and media clock.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from engine.errors import Unavailable
from engine.types import Action, Control, ControlBody, Pause, Receipt, Stall
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import HEALTHY_S, Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.metrics import Metrics
from server.worker.base import GoOn
from server.worker.messages import CloseSession, SubmitControl

ELSEWHERE_S = 0.3  # until a session goes on in a worker that runs already
MAX_FAILOVERS = 2  # in a row: a session that was being made at each of these deaths may be what kills workers
GAVE_UP = "the worker that made this video is gone and it could not go on; open it again"
NOT_OPENED = "the worker was lost before this video began; try again in a moment"
SUPERSEDED = "the worker was replaced before this took effect, and newer controls count"


class Failover:
    """A worker keeps generating an unwatched session for `idle_grace_s`."""

    def __init__(self, sessions: Sessions, fleet: Fleet, metrics: Metrics, idle_grace_s: float) -> None:
        self._sessions, self._fleet, self._metrics = sessions, fleet, metrics
        self._grace_s = idle_grace_s
        self._told: dict[str, Stall] = {}  # stalls that were told from here, as the worker itself did not

    def worker_fault(self, worker: Supervisor, back_in_s: float | None) -> None:
        """To be called every second: this worker hangs or is unresponsive, and stalled sessions go on in
        `back_in_s` at the latest. None: it works."""
        now_s = self._sessions.now_s()
        for session in self._sessions.of(worker.name):
            waits = session.opened.done() and not (session.asleep or session.away or session.throttled)
            known = self._told.pop(session.id, None)
            if back_in_s is not None and waits and (known is not None or now_s >= session.moved_s):
                self._told[session.id] = _stall(session, back_in_s)
                session.stall(self._told[session.id], now_s)
            elif known is not None and session.buffering is known:
                session.moved_s = now_s  # the stall that was expected no longer excuses a late segment
                session.stall(None, now_s)
            else:
                continue
            if known is None or session.buffering is None:
                self._sessions.tell(session)
        self._sessions.count()

    def worker_lost(self, worker: Supervisor) -> None:
        """The worker is gone. Its sessions go on elsewhere at once, as far as there is room."""
        for session in self._sessions.of(worker.name):
            self._told.pop(session.id, None)
            if session.closing:
                self._sessions.end(session, "closed", "the session was closed")
            else:
                near = self._fleet.refuge(session) is not None
                self._lose(session, ELSEWHERE_S if near else worker.back_in_s)
        self._sessions.count()
        self.restore_all()

    def restore_all(self) -> None:
        """Restore sessions, watched ones first, as far as workers take them. The rest stays away until the
        next call."""
        for session in sorted(self._sessions, key=lambda s: not s.fanout.count):
            if session.away and (worker := self._next_worker(session)) is not None:
                with suppress(Unavailable):
                    self.restore(session, worker)

    def give_up(self, worker: Supervisor) -> None:
        """No other worker will come in its place. Its sessions crowd the others rather than end."""
        for session in self._sessions.of(worker.name):
            refuge = self._fleet.refuge(session, crowded=True)
            try:
                if refuge is None:
                    raise Unavailable(GAVE_UP)
                self.restore(session, refuge)
            except Unavailable:
                self._sessions.end(session, "worker_lost", GAVE_UP)

    def played(self, session: GatewaySession) -> None:
        """A segment is on the screen. If it is the first since the session was lost, the failover is over."""
        over = self._told.pop(session.id, None) is not None
        now_s = self._sessions.now_s()
        if session.lost_s is not None and not session.away:
            self._metrics.failover_s.observe(now_s - session.lost_s)
            session.lost_s, over = None, True
        if over and session.buffering is not None and not session.throttled:
            session.stall(None, now_s)
            self._sessions.count()
            self._sessions.tell(session)

    def _next_worker(self, session: GatewaySession) -> Supervisor | None:
        """Its own if that runs again, since its place is kept there."""
        own = self._fleet.of(session)
        runs = own.ready is not None and own.health.unresponsive is None
        if runs and not own.draining:
            return own
        return self._fleet.refuge(session) or (own if runs else None)

    def _lose(self, session: GatewaySession, back_in_s: float) -> None:
        now_s = self._sessions.now_s()
        lived_s = now_s - session.placed_s  # on this worker: one that it came to may have run for long
        if not session.opened.done():
            self._sessions.end(session, Unavailable.code, NOT_OPENED)
            return
        if session.leaving is not None:  # the worker that it left must not keep it any longer
            self._fleet.named(session.leaving.worker).try_send(CloseSession(session.id))
            session.leaving.arrived.set()
            session.leaving = None
        if not session.away:
            session.failovers = 0 if lived_s > HEALTHY_S else session.failovers
            session.failovers += self._suspect(session, lived_s)
        session.away = True
        session.lost_s = now_s if session.lost_s is None else session.lost_s
        if not session.info.paused:
            session.stall(_stall(session, back_in_s), now_s)
        self._sessions.tell(session)

    def _suspect(self, session: GatewaySession, lived_s: float) -> bool:
        """Whether the session was being generated when the worker died, and may be the reason. An unwatched
        session is generated for a while after it was opened, steered or left, and after each failover. After
        a failover that counts only against sessions that were suspected before, otherwise idle sessions would
        be blamed for crashes they did not cause."""
        if session.info.paused or session.throttled:
            return False
        idle_s = lived_s if session.failovers else self._sessions.now_s() - session.used_s
        return bool(session.fanout.count) or idle_s < self._grace_s

    def restore(self, session: GatewaySession, worker: Supervisor) -> None:
        """Let a lost session go on in this worker. Raises Unavailable."""
        self.go_on(session, worker)
        session.numbers.interrupted()
        self._metrics.resumed.inc()

    def go_on(self, session: GatewaySession, worker: Supervisor, starts_in_s: float = 0.0) -> None:
        """Tell this worker all that it must know of the session, which is its own from then on. The next
        picture is shown in `starts_in_s` at the earliest. Raises Unavailable."""
        command = session.recovery.reopening(session.id)
        if command is None or session.failovers > MAX_FAILOVERS:
            self._sessions.end(session, "worker_lost", GAVE_UP)
            return
        own: list[ControlBody] = [Action(session.info.action)] if session.info.action is not None else []
        own += [Pause()] if session.info.paused else []
        internal = [Control(f"resume-{secrets.token_hex(8)}", body) for body in own]
        since = session.recovery.since()
        controls = [SubmitControl(session.id, control) for control in internal + since]
        worker.send(GoOn(command, (session.audience(), *controls), starts_in_s))
        session.asked(worker.name, self._sessions.now_s())
        session.recovery.reopened()
        self._sessions.count()
        session.internal.update(control.id for control in internal)
        session.away, session.stats = False, None
        if not session.fanout.count:  # nobody waits for a picture
            session.lost_s = None
            session.stall(None, self._sessions.now_s())
        self._reject_forgotten(session, {control.id for control in since})

    def _reject_forgotten(self, session: GatewaySession, kept: set[str]) -> None:
        """Reject controls that were received, never took effect and are not submitted again."""
        pending = [name for name, answer in session.answers.items() if answer.status == "received"]
        for name in pending:
            if name not in kept:
                receipt = Receipt(session.id, name, "rejected", code="superseded", message=SUPERSEDED)
                session.recovery.answered(receipt)
                self._sessions.answer(session, receipt)


def _stall(session: GatewaySession, for_s: float) -> Stall:
    return Stall(session.stats.speed if session.stats else 1.0, 1.0, for_s)
