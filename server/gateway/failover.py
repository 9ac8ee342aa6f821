"""Sessions outlive their worker: what is told and kept when one is lost, and sent to the next.

Viewers stay connected and see the last picture until the video goes on from the latest snapshot, with the
same id, tokens and media clock. It knows workers as something that takes commands.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress

from engine.errors import Unavailable
from engine.types import Action, Control, ControlBody, Pause, Receipt, Stall
from server.gateway.events import Hearing
from server.gateway.session import Session
from server.gateway.supervisor import HEALTHY_S
from server.metrics import Metrics
from server.worker.base import GoOn, Order
from server.worker.messages import SegmentStats, SubmitControl

MOST_IN_A_ROW = 2  # deaths of workers that a session may have been there at: it may be what kills them
GAVE_UP = "the worker that made this video is gone and it could not go on; open it again"
NOT_BEGUN = "the worker was lost before this video began; try again in a moment"


class Revival:
    """`send` sends all of an order or raises Unavailable. `end(session, code, message)` ends what cannot go
    on. The worker goes on with who is not watched for `idle_grace_s`."""

    def __init__(
        self,
        sessions: Mapping[str, Session],
        send: Callable[[Order], None],
        hearing: Hearing,
        end: Callable[[Session, str, str], None],
        metrics: Metrics,
        clock: Callable[[], float],
        idle_grace_s: float,
    ) -> None:
        self._sessions, self._send, self._hearing, self._end = sessions, send, hearing, end
        self._metrics, self._clock, self._grace_s = metrics, clock, idle_grace_s
        self._stuck: dict[str, Stall] = {}  # what was told of whom, as the worker itself does not

    def stuck(self, back_in_s: float | None) -> None:
        """Every second: the worker hangs or is silent, and who waits for a picture goes on in `back_in_s` at
        the latest. None: it works."""
        now_s, told, self._stuck = self._clock(), self._stuck, {}
        for session in list(self._sessions.values()):
            waits = session.opened.done() and not (session.asleep or session.away or session.held)
            known = told.get(session.id)
            if back_in_s is not None and waits and (known is not None or now_s >= session.moved_s):
                self._stuck[session.id] = _standing(session, back_in_s)
                session.stands(self._stuck[session.id], now_s)
            elif known is not None and session.buffering is known:
                session.moved_s = now_s  # what was feared is no reason any more to wait so long
                session.stands(None, now_s)
            else:
                continue
            if known is None or session.buffering is None:
                self._hearing.tell(session)
        self._hearing.count()

    def all_lost(self, back_in_s: float, lived_s: float) -> None:
        """The worker is gone, which `lived_s`; another one is expected in `back_in_s`."""
        self._stuck.clear()
        for session in list(self._sessions.values()):
            if session.closing:
                self._end(session, "closed", "the session was closed")
            else:
                self._lost(session, back_in_s, lived_s)
        self._hearing.count()

    def revive_all(self) -> None:
        """Into the worker that runs now, watched ones first, as far as it takes them; the rest stays away."""
        with suppress(Unavailable):
            for session in sorted(self._sessions.values(), key=lambda s: not s.fanout.count):
                if session.away:
                    self._revive(session)

    def give_up(self) -> None:
        """No other worker will come."""
        for session in list(self._sessions.values()):
            self._end(session, "worker_lost", GAVE_UP)

    def played(self, session: Session, stats: SegmentStats) -> None:
        """A segment is on the screen; if it is the first since the session was lost, that is over."""
        over = self._stuck.pop(session.id, None) is not None
        if session.lost_s is not None and not session.away:
            self._metrics.failover_s.observe(self._clock() - session.lost_s)
            session.lost_s, over = None, True
        if over and session.buffering is not None and not session.held:
            session.stands(None, self._clock())
            self._hearing.count()
            self._hearing.tell(session)

    def _lost(self, session: Session, back_in_s: float, lived_s: float) -> None:
        now_s = self._clock()
        if not session.opened.done():
            self._end(session, Unavailable.code, NOT_BEGUN)
            return
        if not session.away:
            session.revivals = 0 if lived_s > HEALTHY_S else session.revivals
            session.revivals += self._suspect(session, lived_s)
        session.away = True
        session.lost_s = now_s if session.lost_s is None else session.lost_s
        if not session.info.paused:
            session.stands(_standing(session, back_in_s), now_s)
        self._hearing.tell(session)

    def _suspect(self, session: Session, lived_s: float) -> bool:
        """Whether it was being generated when the worker died, and may be why. One that nobody watches is for
        a while after it was opened, steered or left, and after each revival: that counts against who was
        suspected before, or sleepers would have to pay for the deeds of others."""
        if session.info.paused or session.held:
            return False
        left_s = lived_s if session.revivals else self._clock() - session.used_s
        return bool(session.fanout.count) or left_s < self._grace_s

    def _revive(self, session: Session) -> None:
        command = session.keepsake.again(session.id)
        if command is None or session.revivals > MOST_IN_A_ROW:
            self._end(session, "worker_lost", GAVE_UP)
            return
        own: list[ControlBody] = [Action(session.info.action)] if session.info.action is not None else []
        own += [Pause()] if session.info.paused else []
        quiet = [Control(f"resume-{secrets.token_hex(8)}", body) for body in own]
        since = session.keepsake.since()
        controls = [SubmitControl(session.id, control) for control in quiet + since]
        self._send(GoOn(command, (session.audience(), *controls)))
        session.quiet.update(control.id for control in quiet)
        session.away, session.stats = False, None
        if not session.fanout.count:  # no picture is waited for
            session.lost_s = None
            session.stands(None, self._clock())
        session.numbers.interrupted()
        self._metrics.resumed.inc()
        self._refuse_forgotten(session, {control.id for control in since})

    def _refuse_forgotten(self, session: Session, kept: set[str]) -> None:
        """Of what was received and never took effect, all that is not tried again."""
        waiting = [name for name, answer in session.answers.items() if answer.status == "received"]
        for name in waiting:
            if name not in kept:
                text = "the worker was replaced before this took effect, and newer controls count"
                self._hearing(Receipt(session.id, name, "rejected", code="superseded", message=text))


def _standing(session: Session, for_s: float) -> Stall:
    """The picture stands for so long."""
    return Stall(session.stats.speed if session.stats else 1.0, 1.0, for_s)
