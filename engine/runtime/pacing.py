"""When a segment should start and when it is shown: pure functions over plain numbers.

Playout is where the viewers' clock stands: `end_s` is when the last frame made so far will have been shown.
Nothing here knows sessions, models or threads. All times are of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Playout:
    """`end_s` is None until a first segment is ready; `since_s` is since when the next one could be made."""

    since_s: float
    end_s: float | None = None
    late_total: int = 0


@dataclass(frozen=True)
class Took:
    """Running estimate of the time from wanting a segment to having it: mean and mean deviation."""

    mean_s: float = 0.0
    deviation_s: float = 0.0
    samples: int = 0

    @property
    def high_s(self) -> float:
        return self.mean_s + 2 * self.deviation_s


def learned(took: Took, sample_s: float, weight: float = 0.2) -> Took:
    """`took` with one more sample; old ones fade, much as in TCP's round-trip estimate (RFC 6298)."""
    if took.samples == 0:
        return Took(sample_s, sample_s / 4, 1)
    off = abs(sample_s - took.mean_s)
    return Took(
        took.mean_s + weight * (sample_s - took.mean_s),
        took.deviation_s + weight * (off - took.deviation_s),
        took.samples + 1,
    )


def lead_s(took: Took, *, share: float = 1.0, margin: float, least_s: float, most_s: float) -> float:
    """How long before the playout end the next segment should start: late enough to be steered.
    `share` is its cost in usual segments."""
    return min(max(share * margin * took.high_s, least_s), most_s)


def wanted_s(playout: Playout, lead_s: float) -> float:
    """When the next segment should start."""
    return playout.since_s if playout.end_s is None else max(playout.since_s, playout.end_s - lead_s)


def deadline_s(playout: Playout, lead_s: float) -> float:
    """When the next segment must be ready. A first segment competes as if it had one lead's time."""
    return playout.since_s + lead_s if playout.end_s is None else playout.end_s


class Shown(NamedTuple):
    due_s: float  # when the first frame of the segment is to be shown
    ahead_s: float  # how far ahead of playout it was ready; negative means late
    playout: Playout


def shown(playout: Playout, ready_s: float, segment_s: float, late_margin_s: float) -> Shown:
    """Queue a segment that is ready. A late one re-anchors: playout goes on from now, never faster."""
    first = playout.end_s is None
    end_s = ready_s if playout.end_s is None else playout.end_s
    late = end_s < ready_s
    due_s = ready_s + late_margin_s if first or late else end_s
    after = Playout(ready_s, due_s + segment_s, playout.late_total + late)
    return Shown(due_s, end_s - ready_s, after)


def resumed(playout: Playout, now_s: float) -> Playout:
    """Go on after a pause: what is queued plays out, else playout re-anchors; nothing counts as late."""
    queued = playout.end_s is not None and playout.end_s > now_s
    return replace(playout, since_s=now_s, end_s=playout.end_s if queued else None)
