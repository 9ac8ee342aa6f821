"""Which gateway has the sessions whose ids don't say so, and which one has `main`.

A session belongs to the gateway that began to report it last: it has claimed it from the other one. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.cluster.messages import MAIN

VACANT_S = 3.0  # nobody has had `main` for this long: somebody is appointed
MAX_MOVED = 4096


class Owners:
    """`moved` has the gateway of each session that was reported as adopted, but `main`. `main` is the gateway
    that has it or shall open it; empty while that is not known."""

    def __init__(self, now_s: float) -> None:
        self.moved: dict[str, str] = {}
        self.main = ""
        self._reports: dict[str, frozenset[str]] = {}  # of each gateway, the last
        self._has_main = False
        self._vacant_s = now_s

    def told(self, gateway: str, adopted: Sequence[str], now_s: float) -> None:
        """A gateway has reported these sessions."""
        before = self._reports.get(gateway, frozenset())
        now = self._reports[gateway] = frozenset(adopted)
        if MAIN in now - before:
            self.main, self._has_main = gateway, True
        for session in adopted:
            if session == MAIN:
                continue
            if session not in before if session in self.moved else len(self.moved) < MAX_MOVED:
                self.moved[session] = gateway
        for session in before - now:
            self._left(gateway, session, now_s)

    def gone(self, gateway: str, now_s: float) -> None:
        for session in self._reports.pop(gateway, frozenset()):
            self._left(gateway, session, now_s)
        if self.main == gateway:  # it was appointed and has opened nothing
            self.main, self._vacant_s = "", now_s

    def _left(self, gateway: str, session: str, now_s: float) -> None:
        """The gateway has it no more; another one may have reported it before."""
        other = next((name for name, sessions in self._reports.items() if session in sessions), "")
        if session == MAIN:
            if self.main == gateway:
                self.main, self._has_main, self._vacant_s = other, bool(other), now_s
        elif self.moved.get(session) == gateway:
            if other:
                self.moved[session] = other
            else:
                del self.moved[session]

    def appoint(self, ready: Sequence[str], now_s: float) -> None:
        """Let the first of these gateways open `main`, if nobody has it for too long."""
        if not self._has_main and self.main not in ready and ready and now_s - self._vacant_s >= VACANT_S:
            self.main = min(ready)
