"""When a segment should start, when it is shown, and how fast: pure functions over plain numbers.

Playout is the position of the viewers' clock: `end_s` is when the last frame made so far will have been
shown. Pace is how fast a session receives its video. If that is slower than playback, the video is shown in
slow motion, as evenly as at full speed. If slow motion would be a slide show, playout stalls from time to
time and refills (`stalls`). docs/architecture.md has the reasons. Sessions, models and threads are unknown
here. All times are of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

HEADROOM = 1.04  # video is shown slightly slower than it is generated, so that no hiccup is visible
EASE = 1.1  # largest rise of the rate per segment
FULL = 0.97  # rates from here on count as natural speed
DOUBT = 1.25  # tolerance for a first segment, whose usual time is unknown
FADE = 0.1  # weight of a new sample in the usual time


class Candidate(NamedTuple):
    """A session that may generate. Its next segment should start at `wanted_s` and be ready at
    `deadline_s`."""

    session: str
    wanted_s: float
    deadline_s: float


@dataclass(frozen=True)
class PlayoutClock:
    """`end_s` is None until a first segment is ready. The next one could be made since `since_s`."""

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
    """`took` with one more sample; old ones fade, as in TCP's round-trip estimate (RFC 6298)."""
    if took.samples == 0:
        return Took(sample_s, sample_s / 4, 1)
    off = abs(sample_s - took.mean_s)
    return Took(
        took.mean_s + weight * (sample_s - took.mean_s),
        took.deviation_s + weight * (off - took.deviation_s),
        took.samples + 1,
    )


def lead_s(took: Took, *, share: float = 1.0, margin: float, least_s: float, most_s: float) -> float:
    """How long before the end of playout the next segment should start: as late as possible, so that steering
    takes effect soon. `share` is its cost in usual segments."""
    return min(max(share * margin * took.high_s, least_s), most_s)


def wanted_s(playout: PlayoutClock, lead_s: float) -> float:
    """When the next segment should start."""
    return playout.since_s if playout.end_s is None else max(playout.since_s, playout.end_s - lead_s)


def deadline_s(playout: PlayoutClock, lead_s: float) -> float:
    """When the next segment must be ready. A first segment counts as due one lead after it was wanted."""
    return playout.since_s + lead_s if playout.end_s is None else playout.end_s


def turn_s(playout: PlayoutClock, segment_s: float) -> float:
    """The deadline of a session in slow motion: the one that has waited longest for a segment goes first. By
    `deadline_s` slow sessions would seem to have time, receive less device time than full-speed sessions and
    fall further behind."""
    return playout.since_s + segment_s


class Shown(NamedTuple):
    due_s: float  # when the first frame of the segment is to be shown
    ahead_s: float  # how far ahead of playout it was ready; negative means late
    playout: PlayoutClock


def shown(
    playout: PlayoutClock,
    ready_s: float,
    segment_s: float,
    late_margin_s: float,
    *,
    rate: float = 1.0,
    stall_s: float = 0.0,
) -> Shown:
    """Queue a ready segment, to be shown at `rate`. A late one re-anchors: playout continues from now, never
    faster, and not before the picture has stalled for `stall_s`."""
    first = playout.end_s is None
    end_s = ready_s if playout.end_s is None else playout.end_s
    late = end_s < ready_s
    due_s = end_s
    if first:
        due_s = ready_s + late_margin_s
    elif late:
        due_s = max(ready_s + late_margin_s, end_s + stall_s)
    after = PlayoutClock(ready_s, due_s + segment_s / rate, playout.late_total + late)
    return Shown(due_s, end_s - ready_s, after)


def resumed(playout: PlayoutClock, now_s: float) -> PlayoutClock:
    """Continue after a pause: queued frames play out, else playout re-anchors. Nothing counts as late."""
    queued = playout.end_s is not None and playout.end_s > now_s
    return replace(playout, since_s=now_s, end_s=playout.end_s if queued else None)


@dataclass(frozen=True)
class Pace:
    """Seconds that a session needs per segment, including the wait for the device, and the `rate` at which
    its video is shown; 1 is natural speed. Without samples `usual_s` is a guess, and 0 means no guess."""

    usual_s: float = 0.0  # running mean; a single outlier hardly counts
    above_s: float = 0.0  # running mean of how far samples lie above it
    last_s: float = 0.0
    samples: int = 0
    rate: float = 1.0


def guessed(usual_s: float, segment_s: float, least_rate: float) -> Pace:
    """Before the first segment, from the time that one took elsewhere; 0: unknown."""
    rate = segment_s / max(HEADROOM * usual_s, 1e-3)
    return Pace(usual_s, rate=1.0 if rate >= FULL else max(rate, least_rate))


def speed(pace: Pace, segment_s: float) -> float:
    """Seconds of video per second of generation time."""
    return segment_s / max(pace.usual_s, 1e-3)


def paced(pace: Pace, sample_s: float, segment_s: float, least_rate: float) -> Pace:
    """`pace` after one more segment. Slow motion starts with the second slow segment in a row, since a single
    one may be chance. From then on the rate falls with the speed at once and rises step by step."""
    measured, slow = _measured(pace, sample_s), pace.samples > 0 and pace.rate < 1
    sustained_s = sample_s / DOUBT if pace.samples == 0 else min(pace.last_s, sample_s)
    if not slow and sustained_s <= segment_s:
        return replace(measured, rate=1.0)
    needs_s = max(HEADROOM * measured.usual_s + 2 * measured.above_s, HEADROOM * sustained_s, 1e-3)
    rate = min(segment_s / needs_s, EASE * pace.rate if slow else 1.0)
    return replace(measured, rate=1.0 if rate >= FULL else max(rate, least_rate))


def stalls(pace: Pace, segment_s: float, least_rate: float) -> bool:
    """Whether the device is too slow even for `least_rate`, so that playout runs dry repeatedly."""
    return pace.samples > 0 and segment_s < least_rate * HEADROOM * pace.usual_s


def _measured(pace: Pace, sample_s: float) -> Pace:
    """The estimates with one more sample. After two samples in a row that are off by more than a factor of
    two the device has changed, and they start again."""
    low_s, high_s = sorted((pace.last_s, sample_s))
    anew = sample_s if pace.samples == 0 else None
    if pace.samples and low_s > 2 * pace.usual_s:
        anew = low_s
    elif pace.samples and high_s < pace.usual_s / 2:
        anew = high_s
    if anew is not None:
        return replace(pace, usual_s=anew, above_s=0.0, last_s=sample_s, samples=1)
    samples = pace.samples + 1
    weight = max(FADE, 1 / samples)
    off_s = min(sample_s, 2 * pace.usual_s) - pace.usual_s
    return replace(
        pace,
        usual_s=pace.usual_s + weight * off_s,
        above_s=pace.above_s + weight * (max(0.0, off_s) - pace.above_s),
        last_s=sample_s,
        samples=samples,
    )
