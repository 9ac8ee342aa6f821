"""Measured times of device turns, by stage and batch size, and the start of the running turn.

The device thread writes, any thread reads. Sessions are unknown here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from engine.runtime.device.scheduler import SegmentStage

Clock = Callable[[], float]
WEIGHT = 0.1  # weight of a new sample in the mean
OUTLIER = 3.0  # a sample counts as at most this many times the mean
SHORTER = 0.8  # below this share of the mean, a time is clearly shorter
HANGS = 3.0  # a call hangs after this many segment periods and this many times the longest mean


class Sample(NamedTuple):
    mean_s: float
    samples: int


def learned(old: Sample | None, sample_s: float) -> Sample:
    """The running mean. A first sample may be far too long, since libraries initialise in it; the second
    corrects it."""
    if old is None or (old.samples == 1 and sample_s < old.mean_s / 2):
        return Sample(sample_s, 1)
    weight = max(WEIGHT, 1 / (old.samples + 1))
    return Sample(old.mean_s + weight * (min(sample_s, OUTLIER * old.mean_s) - old.mean_s), old.samples + 1)


class Costs:
    """A model that denoises at several sizes has a role for each. Their turns are measured separately;
    `calls` says how many of each a segment takes, and the time of a denoise step is the mean over them."""

    def __init__(self, clock: Clock, calls: Mapping[str, int] | None = None) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._calls = dict(calls or {"": 1})
        kinds = [
            (s, role) for s in SegmentStage for role in (self._calls if s is SegmentStage.DENOISE else ("",))
        ]
        self._samples: dict[tuple[SegmentStage, str], dict[int, Sample]] = {kind: {} for kind in kinds}
        self._since_s: float | None = None
        self.busy_s = 0.0  # in total

    @contextmanager
    def timed(self) -> Iterator[Callable[[], float]]:
        """Marks the device as busy, so that a hang is noticed. Yields a function for the seconds so far."""
        start_s = self._since_s = self._clock()
        try:
            yield lambda: self._clock() - start_s
        finally:
            self._since_s = None

    @contextmanager
    def measured(self, stage: SegmentStage, rows: int, role: str = "") -> Iterator[Callable[[], float]]:
        """Times a turn of a session and yields a function for the seconds so far. A failed turn is not
        counted as a sample."""
        with self.timed() as took_s:
            try:
                yield took_s
                self.add(stage, rows, took_s(), role)
            finally:
                self.busy_s += took_s()

    def add(self, stage: SegmentStage, rows: int, sample_s: float, role: str = "") -> None:
        """Add a sample. Other batch sizes change in proportion, because a slower device is slower at all of
        them. Otherwise sizes that were measured at a busy time would not be tried again for long."""
        with self._lock:
            known = self._samples[stage, role if (stage, role) in self._samples else ""]
            old, new = known.get(rows), learned(known.get(rows), sample_s)
            if old is not None and new.samples > 1 and old.mean_s > 0:
                for n, (mean_s, samples) in known.items():
                    known[n] = Sample(mean_s * new.mean_s / old.mean_s, samples)
            known[rows] = new

    def shortened(self, stage: SegmentStage, role: str, turn_s: float) -> bool:
        """An idle device took this long for a turn of one row. If that is clearly shorter than the mean, it
        replaces the mean, and other batch sizes change in proportion. Returns whether it did."""
        with self._lock:
            known = self._samples.get((stage, role), {})
            old = known.get(1)
            if old is None or turn_s >= SHORTER * old.mean_s:
                return False
            for n, (mean_s, samples) in known.items():
                known[n] = Sample(mean_s * turn_s / old.mean_s, samples)
            return True

    def seconds(self, stage: SegmentStage, rows: int) -> float | None:
        """Time of a turn; of a denoise step, the mean over its roles. Interpolated between measured batch
        sizes; beyond the largest, each row costs as much as there. None without any measurement."""
        total_s, calls = 0.0, 0
        for (kind, role), samples in self._samples.items():
            if kind is not stage:
                continue
            with self._lock:
                known = {n: sample.mean_s for n, sample in samples.items()}
            turn_s = between(known, rows)
            if turn_s is None:
                return None
            count = self._calls.get(role, 1) if stage is SegmentStage.DENOISE else 1
            total_s, calls = total_s + count * turn_s, calls + count
        return total_s / calls

    def running_s(self, now_s: float) -> float:
        """How long the current turn has been running; 0 between turns."""
        since_s = self._since_s
        return 0.0 if since_s is None else now_s - since_s

    def hangs_for_s(self, now_s: float, segment_s: float) -> float | None:
        """How long the current turn has been running, if that is long enough to call it hung; else None."""
        for_s = self.running_s(now_s)
        with self._lock:
            means = [sample.mean_s for known in self._samples.values() for sample in known.values()]
        return for_s if for_s > HANGS * max(segment_s, *means, 0.0) else None


def between(known: dict[int, float], rows: int) -> float | None:
    """Seconds at `rows`, from measurements at other batch sizes."""
    low = max((n for n in known if n <= rows), default=None)
    high = min((n for n in known if n >= rows), default=None)
    if low is None:
        return None if high is None else known[high]
    if high is None:
        return known[low] * rows / low
    if low == high:
        return known[low]
    return known[low] + (known[high] - known[low]) * (rows - low) / (high - low)
