"""Workers and sessions of a simulated fleet: what the product's policy asks of them, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from engine.config import RuntimeConfig
from engine.model.signature import ModelSpec
from engine.runtime.device.admission import Admission, row_s, worthwhile
from engine.runtime.device.costs import Costs
from engine.runtime.device.scheduler import SegmentStage
from engine.types import Capacity
from server.gateway.assignment import Assignments
from server.gateway.session import GatewaySession
from server.worker.messages.events import WorkerReady

TIMED = (SegmentStage.DENOISE, SegmentStage.DECODE, SegmentStage.REMEMBER)


class SimulatedDevice:
    """One kind of device: every call takes `call_s` and `row_s` for each row. What it serves in real time is
    computed by the product, as after a warm-up."""

    def __init__(self, spec: ModelSpec, call_s: float, row_s: float, config: RuntimeConfig) -> None:
        self.spec, self.config = spec, config
        self.costs = Costs(lambda: 0.0)
        sizes = [n for n in (1, 2, 4, 8, 16, 32) if n <= config.max_batch]
        for stage in TIMED:
            for n in sizes:
                self.costs.add(stage, n, call_s + row_s * n)
        self.limits = {stage: worthwhile(self.costs.seconds, stage, sizes) for stage in SegmentStage}
        self.limits[SegmentStage.PREPARE] = max(self.limits.values())
        self.turn_s = call_s + row_s * self.limits[SegmentStage.DENOISE]
        admission = self.admission()
        self.capacity = admission.capacity
        self.segment_s = row_s_of(self, self.capacity)
        self.ready = WorkerReady(
            model=spec.name,
            backend="simulated",
            height=spec.height,
            width=spec.width,
            fps=spec.fps,
            frames_per_segment=spec.frames_per_segment,
            start_frames=0,
            actions=spec.actions,
            state_bytes=0,
            max_sessions=config.max_sessions,
            segment_ms=1000 * self.segment_s,
            idle_share=config.idle_share,
        )

    def admission(self) -> Admission:
        """A worker's own judgement of whether another session fits."""
        made = Admission(self.spec, self.config, self.costs)
        made.measure(self.limits)
        return made


def row_s_of(device: SimulatedDevice, sessions: int) -> float:
    """Device seconds of one segment among `sessions` that share batches."""
    return row_s(device.costs.seconds, device.limits, device.spec.steps, sessions) or 0.0


class _Timeline:
    paused = False


class _Health:
    unresponsive: str | None = None


class SimulatedSession:
    """Stands for a session in the gateway and in the worker. `timeline` is what the worker asks for
    pauses."""

    __slots__ = ("asleep", "id", "lost_s", "orphaned", "unwatched_since_s", "viewers", "watched", "worker")

    timeline = _Timeline()
    tokens = ()
    buffering = None
    failovers, held = 0, False  # none is suspected of killing workers
    closing = False

    def __init__(self, name: str, *, watched: bool) -> None:
        self.id, self.worker, self.orphaned = name, "", False
        self.unwatched_since_s = -1e9
        self.lost_s: float | None = None
        self.watch(watched, -1e9)

    def watch(self, watched: bool, now_s: float) -> None:
        """A viewer joins or leaves."""
        self.watched, self.viewers, self.asleep = watched, int(watched), not watched
        self.unwatched_since_s = now_s

    def assigned(self, worker: str, now_s: float) -> None:
        self.worker = worker


class SimulatedWorker:
    """Stands for a supervisor and its worker."""

    back_in_s, outlives_gateway = 1.0, True
    others, left = 0, False  # sessions of other gateways; whether it has left its directory

    def __init__(self, name: str, rack: int, device: SimulatedDevice) -> None:
        self.name, self.rack, self.device = name, rack, device
        self.ready: WorkerReady | None = device.ready
        self.capacity: Capacity | None = Capacity(device.capacity, 0, 0.0)
        self.admission = device.admission()
        self.draining, self.fault = False, None
        self.dead = False  # not known to its gateway until it is noticed
        self.health = _Health()
        self.busy_until_s = 0.0

    def report(self, sessions: list[SimulatedSession], now_s: float) -> None:
        """Report its capacity, as a worker does at once when its sessions have changed."""
        if self.capacity is not None:
            new = self.admission.report(cast(Any, sessions), self.device.limits, now_s)
            self.capacity = new or self.capacity

    @property
    def accepts(self) -> bool:
        return self.ready is not None and not self.draining and self.health.unresponsive is None


class SimulatedSessions:
    """The product's index by worker, without tokens, budgets and listeners."""

    def __init__(self) -> None:
        self._assignments = Assignments()
        self._by_id: dict[str, SimulatedSession] = {}
        self.now_s = 0.0

    def __iter__(self) -> Iterator[SimulatedSession]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def show_worker(self, worker: str) -> None:
        """There are no gauges."""

    def of(self, worker: str) -> list[SimulatedSession]:
        return cast(list[SimulatedSession], self._assignments.of(worker))

    def count(self, worker: str) -> int:
        return self._assignments.count(worker)

    def awake(self, worker: str) -> int:
        return self._assignments.awake(worker)

    def assign(self, session: SimulatedSession, worker: str) -> None:
        self._by_id[session.id] = session
        self._assignments.assign(cast(GatewaySession, session), worker, self.now_s)

    def noted(self, session: SimulatedSession) -> None:
        self._assignments.noted(cast(GatewaySession, session))

    def remove(self, session: SimulatedSession) -> None:
        self._by_id.pop(session.id, None)
        self._assignments.remove(cast(GatewaySession, session))
