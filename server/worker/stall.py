"""Detects stalls: whether a session's picture stands still because the device is too slow, and until when.

Playout knows when its frames run out, and the runtime knows when the next ones are expected. This compares
the two and decides what to tell viewers. It knows no queues, threads or codecs. All times come from one
monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from engine.types import Stall

MIN_S = 1.0  # shorter stalls are not worth a message
NEWS_S = 0.5  # smaller changes of the expected end are not reported


class Upcoming(NamedTuple):
    """The next frame or segment to be shown, whether already made or expected."""

    due_s: float
    speed: float
    rate: float


@dataclass
class StallTracker:
    """The stall of one session. `end_s` is when the last shown frame ends. `heard_s` is when playout last
    learned what comes next. `told_s` is the end of the stall as viewers were last told (None: no stall)."""

    end_s: float
    heard_s: float
    told_s: float | None = None

    def showed(self, end_s: float) -> bool:
        """A new frame is on the screen until `end_s`. Returns whether that ends a stall that viewers were
        told about."""
        self.end_s, told_s, self.told_s = end_s, self.told_s, None
        return told_s is not None

    def report_at_s(self, upcoming: Upcoming | None) -> float | None:
        """The time from which viewers must be told something; None if there is nothing to tell."""
        if upcoming is None:
            return None if self.told_s is None else self.heard_s
        since_s = max(self.end_s, self.heard_s)
        if self.told_s is not None:
            return since_s if abs(upcoming.due_s - self.told_s) > NEWS_S else None
        return since_s if upcoming.due_s - since_s > MIN_S else None

    def report(self, upcoming: Upcoming | None, now_s: float) -> Stall | None:
        """Record and return what viewers are told now. None: the stall is over."""
        self.told_s = upcoming.due_s if upcoming else None
        if upcoming is None:
            return None
        return Stall(upcoming.speed, upcoming.rate, max(0.0, upcoming.due_s - now_s))
