"""Whether a session's picture stalls because the device is too slow, and until when: what viewers are told.

Playout knows when its frames run out, and the runtime when the next ones are expected; this compares the two.
It knows no queues, threads or codecs. All times are of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from engine.types import Stall

MIN_S = 1.0  # a shorter stall is a hitch, and not worth a message
NEWS_S = 0.5  # an expectation that moves by less is not told again


class Upcoming(NamedTuple):
    """What will be shown next, already made or expected."""

    due_s: float
    speed: float
    rate: float


@dataclass
class StallTracker:
    """Of one session. `end_s` is when the time of the last shown frame is over, `heard_s` when playout last
    learned what comes next, `told_s` when that comes, as viewers were told last (None: no stall)."""

    end_s: float
    heard_s: float
    told_s: float | None = None

    def showed(self, end_s: float) -> bool:
        """A new frame is on screen until `end_s`. Whether that ends a stall that viewers were told of."""
        self.end_s, told_s, self.told_s = end_s, self.told_s, None
        return told_s is not None

    def news_s(self, upcoming: Upcoming | None) -> float | None:
        """From when on there is something to tell; None as long as there isn't."""
        if upcoming is None:
            return None if self.told_s is None else self.heard_s
        since_s = max(self.end_s, self.heard_s)
        if self.told_s is not None:
            return since_s if abs(upcoming.due_s - self.told_s) > NEWS_S else None
        return since_s if upcoming.due_s - since_s > MIN_S else None

    def tell(self, upcoming: Upcoming | None, now_s: float) -> Stall | None:
        """What to tell now. None: the stall is over."""
        self.told_s = upcoming.due_s if upcoming else None
        if upcoming is None:
            return None
        return Stall(upcoming.speed, upcoming.rate, max(0.0, upcoming.due_s - now_s))
