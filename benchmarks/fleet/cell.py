"""A simulated gateway with its workers. Which worker gets a session is decided by the product's own code:
`Fleet` chooses, `Admission` refuses, `Failover` restores."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

from benchmarks.fleet.figures import FleetFigures
from benchmarks.fleet.stand_ins import (
    SimulatedDevice,
    SimulatedSession,
    SimulatedSessions,
    SimulatedWorker,
)
from engine.errors import Full
from engine.types import Capacity
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession

FROZEN = "the worker does not respond"


class LostOpening(Exception):
    """A session was opened on a worker that is dead, which nobody had noticed yet."""


class SimulatedGateway:
    """`pictures` collects, of every watched session that was restored, when it shows a picture again."""

    def __init__(
        self,
        workers: Sequence[SimulatedWorker],
        device: SimulatedDevice,
        figures: FleetFigures,
        dice: random.Random,
    ) -> None:
        self.workers, self.device, self.figures = list(workers), device, figures
        self.sessions, self._dice = SimulatedSessions(), dice
        self.fleet = Fleet(cast(Sequence[Supervisor], self.workers), cast(Sessions, self.sessions))
        self._failover = _SimulatedFailover(self)
        self.now_s = self.busy_until_s = 0.0
        self.asked = 0  # workers that were asked to open a session
        self.pictures: list[tuple[SimulatedSession, float]] = []

    def open(self, session: SimulatedSession, now_s: float) -> float:
        """Seconds until it is open. Raises Full, LostOpening."""
        f, self.now_s = self.figures, now_s
        takes_s = max(0.0, self.busy_until_s - now_s) + f.open_cpu_s + self._search_s
        self.busy_until_s = now_s + takes_s
        self._reports(now_s)
        workers = cast(list[SimulatedWorker], self.fleet.to_ask())
        refusal: Full | None = None
        for worker in workers:
            self.asked += 1
            if worker.dead:
                raise LostOpening
            takes_s += f.round_trip_s + f.answer_s + self._dice.uniform(0, self.device.turn_s)
            try:
                worker.admission.admit(cast(Any, self.sessions.of(worker.name)), now_s, None)
            except Full as full:
                refusal = full
                continue
            self.sessions.assign(session, worker.name)
            return takes_s
        raise refusal or Full("all places are taken")

    # ---- losing workers ----

    def unresponsive(self) -> None:
        """Heartbeats of dead workers are missing: nothing is opened there any more."""
        for worker in self.workers:
            worker.health.unresponsive = FROZEN if worker.dead else None

    def lost(self, now_s: float) -> list[SimulatedWorker]:
        """Dead workers count as lost: their sessions continue in others. Returns those workers."""
        gone = [worker for worker in self.workers if worker.dead]
        for worker in gone:
            worker.ready = worker.capacity = None
            for session in self.sessions.of(worker.name):
                session.orphaned = True
        self.restore(now_s)
        return gone

    def replaced(self, worker: SimulatedWorker, now_s: float) -> None:
        """Another worker took the place of a lost one."""
        worker.dead, worker.health.unresponsive = False, None
        worker.ready, worker.capacity = self.device.ready, _capacity(self.device)
        worker.busy_until_s = now_s
        self.restore(now_s)

    def restore(self, now_s: float) -> None:
        """Restore orphaned sessions as far as workers accept them."""
        self.now_s = now_s
        self._reports(now_s)
        self._failover.restore_all()

    def _reports(self, now_s: float) -> None:
        """What has changed was reported within milliseconds, except by the dead."""
        for worker in self.workers:
            if not worker.dead:
                worker.report(self.sessions.of(worker.name), now_s)

    def restored(self, session: SimulatedSession, worker: SimulatedWorker) -> None:
        """Failover has chosen a worker. The gateway sends one snapshot after another; the worker opens them
        in turn and makes a segment for each that is watched."""
        f = self.figures
        start_s = max(self.busy_until_s, self.now_s)
        self.busy_until_s = start_s + f.restore_cpu_s + self._search_s + f.state_bytes / f.link_bytes_per_s
        makes_s = f.from_snapshot_s + (self.device.segment_s if session.watched else 0.0)
        worker.busy_until_s = max(worker.busy_until_s, self.busy_until_s) + makes_s
        self.sessions.assign(session, worker.name)
        session.orphaned = False
        if session.watched:
            self.pictures.append((session, worker.busy_until_s + f.first_picture_s))

    # ---- what it costs ----

    @property
    def _search_s(self) -> float:
        """Processor time of choosing a worker: each of them is looked at."""
        return self.figures.search_s * len(self.workers)

    @property
    def playing(self) -> int:
        return sum(session.watched for session in self.sessions)

    @property
    def snapshot_age_s(self) -> float:
        """The longest time between two snapshots of a session, by the rule of
        `server.gateway.exporting.snapshots`."""
        f = self.figures
        period_s = self.device.spec.segment_s
        of_one = max(self.sessions.awake(worker.name) for worker in self.workers)
        shares_s = of_one / f.worker_snapshot_bytes_per_s, self.playing / f.snapshot_bytes_per_s
        return max(f.snapshot_every_s, f.state_bytes * max(shares_s), period_s)

    @property
    def snapshot_bytes_per_s(self) -> float:
        f = self.figures
        return min(f.snapshot_bytes_per_s, self.playing * f.state_bytes / self.snapshot_age_s)

    @property
    def cores(self) -> float:
        """Cores that packets and one viewer for each playing session use."""
        f = self.figures
        return self.playing * (f.packet_cpu_s * self.device.spec.fps + f.viewer_cpu)


def _capacity(device: SimulatedDevice) -> Capacity:
    return Capacity(device.capacity, 0, 0.0)


class _SimulatedFailover(Failover):
    """The product's order and choice; only the act of restoring is simulated."""

    def __init__(self, gateway: SimulatedGateway) -> None:
        super().__init__(
            cast(Sessions, gateway.sessions), gateway.fleet, cast(Any, None), cast(Any, None), 10.0
        )
        self._gateway = gateway

    def restore(self, session: GatewaySession, worker: Supervisor) -> None:
        self._gateway.restored(cast(SimulatedSession, session), cast(SimulatedWorker, worker))
