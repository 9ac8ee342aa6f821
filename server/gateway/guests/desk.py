"""The owner's side: what guests' viewers want of a session of this gateway, as its worker passes it on."""

from __future__ import annotations

from engine.errors import Full, PsistreamError, UnknownSession
from engine.types import Receipt
from server.control.base import Steering
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.worker.base import Event
from server.worker.messages.holding import Answered, OtherViewers, Submitted


class GuestDesk:
    """`steering` steers the gateway's own sessions."""

    def __init__(self, steering: Steering, sessions: Sessions) -> None:
        self._steering, self._sessions = steering, sessions

    def __call__(self, worker: Supervisor, event: Event) -> bool:
        """Returns False if this is none of its events."""
        match event:
            case Submitted():
                self._submitted(worker, event)
            case OtherViewers():
                self._watched(worker, event)
            case _:
                return False
        return True

    def _submitted(self, worker: Supervisor, event: Submitted) -> None:
        """Do as with any viewer's control. It doesn't matter which worker passes it on."""
        control = event.control
        try:
            answer = self._steering.submit(event.session, control)
        except (UnknownSession, Full):  # it moves, or waits for a place: it gets the control then
            return
        except PsistreamError as error:
            answer = Receipt(event.session, control.id, "rejected", code=error.code, message=error.message)
        if answer.status != "received":
            worker.try_send(Answered(event.session, answer))

    def _watched(self, worker: Supervisor, event: OtherViewers) -> None:
        session = self._sessions.get(event.session)
        if session is not None and session.worker == worker.name:
            session.elsewhere, sleeps = event.count, session.dormant
            session.watched(self._sessions.now_s())
            if sleeps:
                worker.try_send(session.audience())
            self._sessions.announce(session)
