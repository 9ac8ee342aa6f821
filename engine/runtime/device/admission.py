"""Admission of sessions: capacity, as pure functions over measured times of turns, and refusals.

Capacity is the number of sessions whose segments fit, batched as the scheduler batches them, into a share of
the device's time. Threads and clocks are unknown here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from engine.config import RuntimeConfig
from engine.errors import Full
from engine.model.signature import ModelSpec
from engine.runtime.device.costs import Costs, Sample, learned
from engine.runtime.device.scheduler import SegmentStage
from engine.runtime.session.session import Session
from engine.types import Capacity

WORTH = 0.9  # a larger batch must be this much cheaper per row, since longer turns delay urgent work
REFUSE_S = 30.0  # no new sessions for this long after memory ran out
LEAST_RETRY_S, MOST_RETRY_S = 1.0, 30.0
AGAIN_S = 1.0  # interval between computations of the capacity
REPORT_S = 10.0  # interval between reports of an unchanged capacity

Turns = Callable[[SegmentStage, int], float | None]  # (stage, rows) → seconds of a turn; None: never measured


def row_s(turns: Turns, limits: Mapping[SegmentStage, int], steps: int, sessions: int) -> float | None:
    """Device seconds per segment of one of `sessions` busy sessions; None: not measured yet.

    Denoise steps share full batches. Drafts reach the other stages once per segment and share them by chance:
    on a device at its limit, in batches half as large. PREPARE counts as measured, which is mostly
    nothing."""
    total_s = 0.0
    for stage in SegmentStage:
        most = limits[stage] if stage is SegmentStage.DENOISE else (limits[stage] + 1) // 2
        rows = min(sessions, most)
        turn_s = turns(stage, rows)
        if turn_s is None:
            if stage is SegmentStage.PREPARE:
                continue
            return None
        total_s += turn_s / rows * (steps if stage is SegmentStage.DENOISE else 1)
    return total_s


def capacity(
    turns: Turns,
    limits: Mapping[SegmentStage, int],
    *,
    steps: int,
    segment_s: float,
    max_load: float,
    most: int,
    own_s: float = 0.0,
) -> int:
    """Number of sessions, from 1 to `most`, that fit in real time into the share `max_load` of the device
    thread's time. The runtime itself uses `own_s` of it per segment, between turns. A device that is too slow
    for one session serves one, slowly; for a device that was never measured the answer is `most`."""
    full, time_s = max(limits.values()), max_load * segment_s
    for sessions in range(full, 0, -1):
        each_s = row_s(turns, limits, steps, sessions)
        if each_s is None:
            return most
        each_s += own_s
        if sessions * each_s <= time_s:
            return min(most, sessions if sessions < full else int(time_s / max(each_s, 1e-9)))
    return 1


def worthwhile(turns: Turns, stage: SegmentStage, sizes: Sequence[int]) -> int:
    """The smallest batch size that is about as cheap per row as the cheapest."""
    rows_s = {n: turn_s / n for n in sizes if (turn_s := turns(stage, n)) is not None}
    best_s = min(rows_s.values(), default=0.0)
    return min((n for n, each_s in rows_s.items() if each_s * WORTH <= best_s), default=1)


def taken(active: int, idle: int, idle_share: float) -> int:
    """Number of places in use. Idle sessions (paused or unwatched) use no device time, but some will resume,
    so a share of their places is reserved, rounded down."""
    return active + math.floor(idle * idle_share)


def retry_after_s(free_in_s: Sequence[float]) -> int:
    """Retry-After for a refusal; `free_in_s` are the times after which a place might be free."""
    soonest_s = min(free_in_s, default=MOST_RETRY_S / 3)
    return math.ceil(min(max(soonest_s, LEAST_RETRY_S), MOST_RETRY_S))


class Admission:
    """Keeps the figures for admission. Not thread-safe: the engine holds its lock."""

    def __init__(self, spec: ModelSpec, config: RuntimeConfig, costs: Costs) -> None:
        self.capacity = config.max_sessions  # until something is measured
        self._spec, self._config, self._costs = spec, config, costs
        self._own: Sample | None = None  # the runtime's time per segment, between turns
        self._between_s = 0.0  # the same, since the last segment was made
        self._computed_s: float | None = None
        self._reported: Capacity | None = None
        self._reported_s, self._reported_busy_s = 0.0, 0.0

    def measure(self, limits: Mapping[SegmentStage, int]) -> None:
        """Compute `capacity` from the measured times of turns."""
        self.capacity = capacity(
            self._costs.seconds,
            limits,
            steps=self._spec.steps,
            segment_s=self._spec.segment_s,
            max_load=self._config.max_load,
            most=self._config.max_sessions,
            own_s=0.0 if self._own is None else self._own.mean_s,
        )

    def worked(self, own_s: float, made: int) -> None:
        """After a turn that completed `made` segments; `own_s` is the time that the runtime itself took."""
        self._between_s += max(0.0, own_s)
        if made:
            self._own, self._between_s = learned(self._own, self._between_s / made), 0.0

    def remeasured(self) -> None:
        """The idle device was measured again. The runtime's own time, which is as old, is learned anew with
        the next segment; the next report has the new capacity."""
        self._own, self._between_s, self._computed_s = None, 0.0, None

    def admit(self, sessions: Collection[Session], now_s: float, out_of_memory_s: float | None) -> None:
        """Raises Full if another session would slow down the present ones."""
        c = self._config
        waits_s = [self._idle_in_s(s, now_s) for s in sessions if not s.watched]
        retry_s = retry_after_s([wait_s for wait_s in waits_s if wait_s > 0])
        if len(sessions) >= c.max_sessions:
            raise Full(f"all {c.max_sessions} sessions are taken: try again later", retry_after_s=retry_s)
        if self._taken(sessions, now_s) >= self.capacity:
            raise Full(
                f"the device is full, it serves {self.capacity} in real time: try again in {retry_s} s",
                retry_after_s=retry_s,
            )
        if out_of_memory_s is not None and (left_s := out_of_memory_s + REFUSE_S - now_s) > 0:
            retry_s = retry_after_s([left_s])
            raise Full(f"the device ran out of memory: try again in {retry_s} s", retry_after_s=retry_s)

    def report(
        self, sessions: Collection[Session], limits: Mapping[SegmentStage, int], now_s: float
    ) -> Capacity | None:
        """A Capacity to report, if it has changed or a report is due."""
        reported, opened, places = self._reported, len(sessions), self._taken(sessions, now_s)
        if self._computed_s is None or now_s - self._computed_s >= AGAIN_S:
            self._computed_s = now_s
            self.measure(limits)
        figures = self.capacity, opened, places
        changed = reported is None or (reported.sessions, reported.open, reported.taken) != figures
        since_s, busy_s = now_s - self._reported_s, self._costs.busy_s - self._reported_busy_s
        if not changed and since_s < REPORT_S:
            return None
        load = 0.0 if reported is None else reported.load
        if reported is not None and since_s >= AGAIN_S:
            load = min(1.0, busy_s / since_s)
        if reported is None or since_s >= AGAIN_S:
            self._reported_s, self._reported_busy_s = now_s, self._costs.busy_s
        self._reported = Capacity(self.capacity, opened, load, places)
        return self._reported

    def _taken(self, sessions: Collection[Session], now_s: float) -> int:
        idle = sum(self._idle_in_s(session, now_s) <= 0 for session in sessions)
        return taken(len(sessions) - idle, idle, self._config.idle_share)

    def _idle_in_s(self, session: Session, now_s: float) -> float:
        """Seconds until the session stops using device time; 0 or less: it uses none now."""
        if session.timeline.paused:
            return 0.0
        if session.watched:
            return float("inf")
        return session.unwatched_since_s + self._config.idle_grace_s - now_s
