"""Which worker runs which sessions, and how many of them are awake: an index, so that choosing a worker and
losing one do not search all sessions.
"""

from __future__ import annotations

from server.gateway.session import GatewaySession


class Assignments:
    """Only this sets the worker of a session."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, GatewaySession]] = {}  # worker → id → session
        self._awake: dict[str, set[str]] = {}  # worker → ids

    def of(self, worker: str) -> list[GatewaySession]:
        return list(self._of.get(worker, {}).values())

    def count(self, worker: str) -> int:
        return len(self._of.get(worker, ()))

    def awake(self, worker: str) -> int:
        """How many of its sessions are watched and not paused."""
        return len(self._awake.get(worker, ()))

    def assign(self, session: GatewaySession, worker: str, now_s: float) -> None:
        """This worker has been asked to run the session, and no other one runs it any more."""
        self.remove(session)
        session.assigned(worker, now_s)
        self._of.setdefault(worker, {})[session.id] = session
        self.noted(session)

    def noted(self, session: GatewaySession) -> None:
        """It may have fallen asleep or woken."""
        awake = self._awake.setdefault(session.worker, set())
        if session.asleep or session.id not in self._of.get(session.worker, ()):
            awake.discard(session.id)
        else:
            awake.add(session.id)

    def remove(self, session: GatewaySession) -> None:
        """Idempotent."""
        self._of.get(session.worker, {}).pop(session.id, None)
        self._awake.get(session.worker, set()).discard(session.id)
