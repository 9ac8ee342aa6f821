"""What viewers at this gateway may watch: its own sessions, and those of other gateways that it shows."""

from __future__ import annotations

from collections.abc import Callable

from engine.types import Control, Receipt, SessionInfo
from server.control.base import Listener, Steering
from server.gateway.guests.guests import Guests
from server.gateway.registry import Sessions


class ShownSessions:
    """Steering for viewers. `own` steers the gateway's own sessions."""

    def __init__(self, own: Steering, sessions: Sessions, guests: Guests) -> None:
        self._own, self._sessions, self._guests = own, sessions, guests

    def session_ids(self) -> list[str]:
        return self._own.session_ids()

    def waiting_ids(self) -> list[str]:
        return self._own.waiting_ids()

    def info(self, session_id: str) -> SessionInfo:
        guest = self._guests.get(session_id)
        return self._own.info(session_id) if guest is None else guest.current(self._sessions.now_s())

    def submit(self, session_id: str, control: Control) -> Receipt:
        if session_id in self._guests:
            return self._guests.submit(session_id, control)
        return self._own.submit(session_id, control)

    def listen(self, listener: Listener, session: str | None = None) -> Callable[[], None]:
        return self._sessions.listen(listener, session, guests=True)
