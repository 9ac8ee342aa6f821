"""Sessions outlive their worker: what is told and kept when one is lost, and sent to the next.

Viewers stay connected and see the last picture until the video goes on from the latest snapshot, with the
same id, tokens and media clock. It knows workers as something that takes commands.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from engine.types import (
    Action,
    Buffering,
    Command,
    Control,
    ControlBody,
    Pause,
    Receipt,
    SegmentStats,
    SetViewers,
    SubmitControl,
)
from server.hearing import Hearing
from server.metrics import Metrics
from server.session import Session

MOST_IN_A_ROW = 2  # a session may be what kills workers
AGAIN_S, MOST_REFUSALS = 5.0, 12
GAVE_UP = "the worker that made this video is gone and it could not go on; open it again"


class Revival:
    """`send` raises Unavailable. `end(session, code, message)` ends what cannot go on."""

    def __init__(
        self,
        sessions: Mapping[str, Session],
        send: Callable[[Command], None],
        hearing: Hearing,
        end: Callable[[Session, str, str], None],
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._sessions, self._send, self._hearing, self._end = sessions, send, hearing, end
        self._metrics, self._clock = metrics, clock

    def all_lost(self, back_in_s: float, *, healthy: bool) -> None:
        """The worker is gone; another one is expected in `back_in_s`. `healthy`: it had lived for long."""
        for session in list(self._sessions.values()):
            if session.closing:
                self._end(session, "closed", "the session was closed")
            else:
                self._lost(session, back_in_s, healthy)
        self._hearing.count()

    def revive_all(self) -> None:
        """Into the worker that runs now, watched ones first. Raises Unavailable where it is gone as well."""
        for session in sorted(self._sessions.values(), key=lambda s: not s.fanout.count):
            if session.away and self._clock() >= session.again_s:
                self._revive(session)

    def postpone(self, session: Session) -> None:
        """The new worker measures itself anew and may think little of itself at first."""
        session.away, session.reviving = True, False
        session.revivals -= 1
        session.refusals += bool(session.fanout.count)  # who is not watched has time
        session.again_s = self._clock() + AGAIN_S
        if session.refusals > MOST_REFUSALS:
            self._end(session, "full", "the device can't serve this session any more; try again later")

    def give_up(self) -> None:
        """No other worker will come."""
        for session in list(self._sessions.values()):
            self._end(session, "worker_lost", GAVE_UP)

    def played(self, session: Session, stats: SegmentStats) -> None:
        """A segment is on the screen; if it is the first since the session was lost, that is over."""
        if session.lost_s is None or session.away:
            return
        self._metrics.failover_s.observe(self._clock() - session.lost_s)
        session.lost_s = None
        if session.buffering is not None:
            session.stands(None, self._clock())
            self._hearing.count()
            self._hearing.tell(session)

    def _lost(self, session: Session, back_in_s: float, healthy: bool) -> None:
        now_s = self._clock()
        if not session.opened.done():
            self._end(session, "worker_lost", GAVE_UP)
            return
        session.revivals = 0 if healthy else session.revivals
        session.away, session.again_s = True, 0.0
        session.lost_s = now_s if session.lost_s is None else session.lost_s
        if not session.info.paused:
            stats = session.stats
            session.stands(Buffering(stats.speed if stats else 1.0, 1.0, back_in_s), now_s)
        self._hearing.tell(session)

    def _revive(self, session: Session) -> None:
        command = session.keepsake.again(session.id)
        if command is None or session.revivals >= MOST_IN_A_ROW:
            self._end(session, "worker_lost", GAVE_UP)
            return
        session.revivals += 1
        since = session.keepsake.since()
        self._send(command)
        self._send(SetViewers(session.id, {} if session.held else session.fanout.viewers))
        if session.info.action is not None:
            self._submit_own(session, Action(session.info.action))
        if session.info.paused:
            self._submit_own(session, Pause())
        for control in since:
            self._send(SubmitControl(session.id, control))
        session.away, session.reviving, session.stats = False, True, None
        if not session.fanout.count:  # no picture is waited for
            session.lost_s = None
            session.stands(None, self._clock())
        session.numbers.interrupted()
        self._metrics.resumed.inc()
        self._refuse_forgotten(session, {control.id for control in since})

    def _submit_own(self, session: Session, body: ControlBody) -> None:
        control = Control(f"resume-{secrets.token_hex(8)}", body)
        session.quiet.add(control.id)
        self._send(SubmitControl(session.id, control))

    def _refuse_forgotten(self, session: Session, kept: set[str]) -> None:
        """Of what was received and never took effect, all that is not tried again."""
        waiting = [name for name, answer in session.answers.items() if answer.status == "received"]
        for name in waiting:
            if name not in kept:
                text = "the worker was replaced before this took effect, and newer controls count"
                self._hearing(Receipt(session.id, name, "rejected", code="superseded", message=text))
