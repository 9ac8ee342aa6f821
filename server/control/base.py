"""The part of the gateway's interface that a control channel (HTTP, data channel, MQTT) uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.types import Control, Receipt, SessionClosed, SessionInfo
from server.worker.messages.events import SegmentStats

SessionEvent = Receipt | SegmentStats | SessionInfo | SessionClosed
Listener = Callable[[SessionEvent], None]  # called on the event loop; must not block


class Steering(Protocol):
    """The gateway as seen by a control channel."""

    def session_ids(self) -> list[str]: ...

    def waiting_ids(self) -> list[str]:
        """Saved sessions that wait for a place: until they have one, `submit` raises Full."""
        ...

    def info(self, session_id: str) -> SessionInfo:
        """Raises UnknownSession."""
        ...

    def submit(self, session_id: str, control: Control) -> Receipt:
        """Queue a valid control; the receipt says `received`, or how an earlier one with this id ended.
        `applied` follows through the listeners. Repeating an id has no second effect. Raises UnknownSession,
        InvalidInput for an action that the session's model does not have, and errors with `retry_after_s`,
        after which the same control may be sent again: Full while a saved session waits for a place, and
        Unavailable."""
        ...

    def listen(self, listener: Listener, session: str | None = None) -> Callable[[], None]:
        """Call `listener` with the events of this session, or of all (None); each event names its session.
        Call the result to stop."""
        ...
