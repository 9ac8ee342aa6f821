"""Whether a session's picture stands because the device needs longer, and until when: what viewers are told.

Playout knows when its frames run out, the runtime when the next ones are expected; here the two meet. It
knows no queues, threads or codecs. All times are of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from engine.types import Stall

LEAST_S = 1.0  # a picture that stands for less is a hitch, and nothing to read about
NEWS_S = 0.5  # an expectation that moves by less is no news


class Upcoming(NamedTuple):
    """What will be shown next, made already or expected."""

    due_s: float
    speed: float
    rate: float


@dataclass
class Standing:
    """Of one session. `end_s` is when the last frame that was shown has had its time, `heard_s` since when it
    is known what comes next, `told_s` when that comes, as was told last (None: nothing stands)."""

    end_s: float
    heard_s: float
    told_s: float | None = None

    def showed(self, end_s: float) -> bool:
        """A new frame is on screen until `end_s`. Whether that ends what was told."""
        self.end_s, told_s, self.told_s = end_s, self.told_s, None
        return told_s is not None

    def news_s(self, upcoming: Upcoming | None) -> float | None:
        """From when on there is something to tell; None as long as there isn't."""
        if upcoming is None:
            return None if self.told_s is None else self.heard_s
        since_s = max(self.end_s, self.heard_s)
        if self.told_s is not None:
            return since_s if abs(upcoming.due_s - self.told_s) > NEWS_S else None
        return since_s if upcoming.due_s - since_s > LEAST_S else None

    def tell(self, upcoming: Upcoming | None, now_s: float) -> Stall | None:
        """What to tell now. None: it is over."""
        self.told_s = upcoming.due_s if upcoming else None
        if upcoming is None:
            return None
        return Stall(upcoming.speed, upcoming.rate, max(0.0, upcoming.due_s - now_s))
