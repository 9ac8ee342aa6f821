"""What placement remembers of the past: hosts that were just lost, and what has failed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

SUSPECT_S = 120.0  # a host that was lost gets no worker for so long, unless one is heard from there
STABLE_S = 60.0  # a worker that has lived so long after joining was no failure
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
REMEMBER_S = 300.0
BAD_HOST = 2  # failures on one host, within that time
MANY = 1 << 20


@dataclass
class Suspects:
    """Hosts that were lost."""

    _since_s: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._since_s)

    def has(self, host: str) -> bool:
        return host in self._since_s

    def add(self, host: str, now_s: float) -> None:
        if host:
            self._since_s[host] = now_s

    def heard(self, host: str) -> None:
        """A worker there is heard."""
        self._since_s.pop(host, None)

    def look(self, now_s: float) -> None:
        self._since_s = {host: s for host, s in self._since_s.items() if now_s - s < SUSPECT_S}


class Failure(NamedTuple):
    host: str
    why: str
    at_s: float


@dataclass
class Failures:
    """After a failure soon after a start the next worker is placed at once, after a second one 1 s later,
    then 2, 4, … 60 s, and one at a time, until one that was placed since has lived for a while. The end of a
    worker that had lived for a while is told, but nothing waits for it."""

    _early: list[Failure] = field(default_factory=list)
    _last: Failure | None = None
    _row: int = 0
    _next_s: float = float("-inf")

    def add(self, host: str, why: str, now_s: float, joined_s: float | None = None) -> None:
        """`joined_s`: when the worker had joined, if it had."""
        self._last = Failure(host, why, now_s)
        if joined_s is not None and now_s - joined_s >= STABLE_S:
            return
        self._early = [*(each for each in self._early if now_s - each.at_s < REMEMBER_S), self._last]
        self._row += 1
        self._next_s = now_s + self._wait_s

    def lives(self, joined_s: float, now_s: float) -> None:
        """A worker that joined then is heard now."""
        if self._row and joined_s > self._early[-1].at_s and now_s - joined_s >= STABLE_S:
            self._row = 0

    def allowed(self, now_s: float) -> int:
        """How many may be placed now."""
        if now_s < self._next_s:
            return 0
        return 1 if self._row > 1 else MANY

    def tried(self, now_s: float) -> None:
        """One was placed."""
        self._next_s = now_s + self._wait_s

    def hosts(self, now_s: float) -> frozenset[str]:
        """Those where workers fail again and again."""
        recent = [each.host for each in self._early if each.host and now_s - each.at_s < REMEMBER_S]
        return frozenset(host for host in recent if recent.count(host) >= BAD_HOST)

    def notes(self, now_s: float) -> list[str]:
        if self._last is None or now_s - self._last.at_s >= REMEMBER_S:
            return []
        told = [f"{now_s - self._last.at_s:.0f} s ago: {self._last.why}"]
        if self._row > 1 and now_s < self._next_s:
            wait_s = self._next_s - now_s
            told.append(f"{self._row} failures in a row: at most one worker is placed, in {wait_s:.0f} s")
        return told

    @property
    def _wait_s(self) -> float:
        return 0.0 if self._row < 2 else min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._row - 2, 10))
