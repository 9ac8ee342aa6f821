"""Whether another session may come in, and what is told of the room there is.

It keeps the figures that engine.runtime.device.admission decides by. It knows no threads: the engine holds
its lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.config import RuntimeConfig
from engine.errors import Full
from engine.model.signature import ModelSpec
from engine.runtime.device.admission import REFUSE_S, capacity, retry_after_s, taken
from engine.runtime.device.costs import Costs, Sample, learned
from engine.runtime.device.scheduler import Stage
from engine.runtime.session.session import Session
from engine.types import Capacity

AGAIN_S = 1.0  # capacity is computed anew after so long
TOLD_S = 10.0  # and told after so long, if nothing changes


class Room:
    def __init__(self, spec: ModelSpec, config: RuntimeConfig, costs: Costs) -> None:
        self.capacity = config.max_sessions  # until something is measured
        self._spec, self._config, self._costs = spec, config, costs
        self._own: Sample | None = None  # of the runtime's time per segment, between turns
        self._between_s = 0.0  # of it, since the last segment was made
        self._computed_s: float | None = None
        self._told: Capacity | None = None
        self._told_s, self._told_busy_s = 0.0, 0.0

    def measure(self, limits: Mapping[Stage, int]) -> None:
        """Compute `capacity` from what turns take by now."""
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
        """After a turn that ended `made` segments; `own_s` is what went by beside the device's time."""
        self._between_s += max(0.0, own_s)
        if made:
            self._own, self._between_s = learned(self._own, self._between_s / made), 0.0

    def admit(self, sessions: Collection[Session], now_s: float, out_of_memory_s: float | None) -> None:
        """Raises Full where another session would take something from those that there are."""
        c = self._config
        idle = [s for s in sessions if self._idle_in_s(s, now_s) <= 0]
        waits_s = [self._idle_in_s(s, now_s) for s in sessions if not s.watched]
        retry_s = retry_after_s([wait_s for wait_s in waits_s if wait_s > 0])
        if len(sessions) >= c.max_sessions:
            raise Full(f"all {c.max_sessions} sessions are taken: try again later", retry_after_s=retry_s)
        if taken(len(sessions) - len(idle), len(idle), c.idle_share) >= self.capacity:
            raise Full(
                f"the device is full, it serves {self.capacity} in real time: try again in {retry_s} s",
                retry_after_s=retry_s,
            )
        if out_of_memory_s is not None and (left_s := out_of_memory_s + REFUSE_S - now_s) > 0:
            retry_s = retry_after_s([left_s])
            raise Full(f"the device ran out of memory: try again in {retry_s} s", retry_after_s=retry_s)

    def news(
        self, sessions: Collection[Session], limits: Mapping[Stage, int], now_s: float
    ) -> Capacity | None:
        """What is to be told by now, if anything."""
        told, opened = self._told, len(sessions)
        if self._computed_s is None or now_s - self._computed_s >= AGAIN_S:
            self._computed_s = now_s
            self.measure(limits)
        changed = told is None or (told.sessions, told.open) != (self.capacity, opened)
        since_s, busy_s = now_s - self._told_s, self._costs.busy_s - self._told_busy_s
        if not changed and since_s < TOLD_S:
            return None
        load = 0.0 if told is None else told.load
        if told is not None and since_s >= AGAIN_S:
            load = min(1.0, busy_s / since_s)
        if told is None or since_s >= AGAIN_S:
            self._told_s, self._told_busy_s = now_s, self._costs.busy_s
        self._told = Capacity(self.capacity, opened, load)
        return self._told

    def _idle_in_s(self, session: Session, now_s: float) -> float:
        """When it takes none of the device's time any more; 0 or less: it takes none now."""
        if session.paused:
            return 0.0
        if session.watched:
            return float("inf")
        return session.unwatched_since_s + self._config.idle_grace_s - now_s
