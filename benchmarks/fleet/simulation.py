"""Plays a fleet's life: sessions come, go, fall asleep and wake, and a rack is lost. Same seed, same life.

There are no processes and no clock but the events' own. A load balancer gives clients to gateways in turn; a
refused client tries other gateways. A placer starts workers on spare GPUs in place of lost ones.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from benchmarks.fleet.cell import LostOpening, SimulatedGateway
from benchmarks.fleet.figures import FleetChoice, FleetFigures
from benchmarks.fleet.stand_ins import SimulatedDevice, SimulatedSession, SimulatedWorker
from engine.errors import Full

STARTS_AT_ONCE = 16  # workers that the placer starts concurrently


@dataclass
class FleetLife:
    """What happened. Times in seconds."""

    placed_s: list[float] = field(default_factory=list)
    opened: int = 0
    elsewhere: int = 0  # of those, at another gateway than the first
    refused: int = 0
    opened_on_dead: int = 0
    preloaded: int = 0  # sessions at the start, out of `sessions`
    workers_lost: int = 0
    sessions_lost: int = 0  # sessions of lost workers
    watched_lost: int = 0
    restored_at_once: int = 0
    replaced_workers: int = 0
    waiting: int = 0  # sessions that still wait for a worker at the end
    picture_s: list[float] = field(default_factory=list)  # from the loss of the rack to a picture
    peak_share: float = 0.0  # the largest share of its real-time capacity that a worker has to serve


class Simulation:
    def __init__(self, choice: FleetChoice, device: SimulatedDevice, figures: FleetFigures) -> None:
        self.choice, self.device, self.figures = choice, device, figures
        self.life = FleetLife()
        self._dice = random.Random(choice.seed)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order, self._names, self._turn = count(), count(), count()
        self.gateways = [
            SimulatedGateway(workers, device, figures, self._dice) for workers in self._workers_of_gateways()
        ]
        self._spares = choice.spares
        self._asked: list[tuple[SimulatedGateway, SimulatedWorker]] = []  # replacements the placer owes
        self._starting = 0

    def _workers_of_gateways(self) -> list[list[SimulatedWorker]]:
        """GPUs stand in racks in order. Spread: each gateway's workers come from racks as far apart as
        possible. Near: from one rack, or from two beside each other."""
        c = self.choice
        gateways: list[list[SimulatedWorker]] = [[] for _ in range(c.gateways)]
        for gpu in range(c.gpus):
            rack = gpu * c.racks // c.gpus
            near = gpu * c.gateways // c.gpus
            of = gateways[gpu % c.gateways if c.layout == "spread" else near]
            of.append(SimulatedWorker(f"w{len(of) + 1}", rack, self.device))
        return gateways

    def at(self, when_s: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), happens))

    def run(self) -> FleetLife:
        c, life = self.choice, self.life
        self._preload()
        self.at(self._dice.expovariate(c.sessions / c.lives_s), self._arrive)
        self.at(c.loss_s, self._lose_rack)
        while self._events and self._events[0][0] <= c.seconds:
            when_s, _, happens = heapq.heappop(self._events)
            happens(when_s)
        life.waiting = sum(session.orphaned for gateway in self.gateways for session in gateway.sessions)
        for gateway in self.gateways:
            life.picture_s += [at_s - c.loss_s for _, at_s in gateway.pictures]
            for worker in gateway.workers:
                if worker.ready is not None:
                    awake = sum(s.watched for s in gateway.sessions.of(worker.name))
                    life.peak_share = max(life.peak_share, awake / self.device.capacity)
        return life

    # ---- sessions ----

    def _preload(self) -> None:
        """As many sessions as there would be after a long time, as far as they are admitted."""
        for _ in range(self.choice.sessions):
            session = self._new(watched=self._dice.random() < self.choice.playing)
            gateway = self._place(session, 0.0)
            if gateway is not None:
                self.life.preloaded += 1
                self._lives(gateway, session, 0.0)
        for gateway in self.gateways:
            gateway.busy_until_s, gateway.asked = 0.0, 0
        self.life.placed_s.clear()
        self.life.opened = self.life.elsewhere = self.life.refused = 0

    def _new(self, *, watched: bool) -> SimulatedSession:
        return SimulatedSession(f"s{next(self._names)}", watched=watched)

    def _arrive(self, now_s: float) -> None:
        c = self.choice
        session = self._new(watched=True)
        gateway = self._place(session, now_s)
        if gateway is not None:
            self._lives(gateway, session, now_s)
        self.at(now_s + self._dice.expovariate(c.sessions / c.lives_s), self._arrive)

    def _place(self, session: SimulatedSession, now_s: float) -> SimulatedGateway | None:
        """Open it at the gateway whose turn it is, or at one of the next. None if all of them refuse."""
        first, life = next(self._turn), self.life
        for again in range(min(self.choice.tries, len(self.gateways))):
            gateway = self.gateways[(first + again) % len(self.gateways)]
            try:
                life.placed_s.append(gateway.open(session, now_s))
            except Full:
                continue
            except LostOpening:
                life.opened_on_dead += 1
                return None
            life.opened += 1
            life.elsewhere += again > 0
            return gateway
        life.refused += 1
        return None

    def _lives(self, gateway: SimulatedGateway, session: SimulatedSession, now_s: float) -> None:
        self.at(
            now_s + self._dice.expovariate(1 / self.choice.lives_s),
            lambda _: gateway.sessions.remove(session),
        )
        self._wakes(gateway, session, now_s)

    def _wakes(self, gateway: SimulatedGateway, session: SimulatedSession, now_s: float) -> None:
        c = self.choice
        stays_s = c.watches_s if session.watched else c.away_s
        if stays_s <= 0:
            return

        def turn(at_s: float) -> None:
            session.watch(not session.watched, at_s)
            gateway.sessions.noted(session)
            self._wakes(gateway, session, at_s)

        self.at(now_s + self._dice.expovariate(1 / stays_s), turn)

    # ---- the rack ----

    def _lose_rack(self, now_s: float) -> None:
        """The rack falls silent: no connection is closed. Each gateway notices by missing heartbeats."""
        c, f, life = self.choice, self.figures, self.life
        rack = c.racks // 2
        for gateway in self.gateways:
            gone = [worker for worker in gateway.workers if worker.rack == rack]
            for worker in gone:
                worker.dead = True
                life.workers_lost += 1
                life.sessions_lost += len(gateway.sessions.of(worker.name))
                life.watched_lost += sum(s.watched for s in gateway.sessions.of(worker.name))
            if gone:
                late_s = self._dice.uniform(0, f.beat_s)
                self.at(now_s + f.unresponsive_s + late_s, lambda _, g=gateway: g.unresponsive())  # type: ignore[misc]
                self.at(now_s + max(c.noticed_s, f.unresponsive_s) + late_s, self._noticed(gateway))

    def _noticed(self, gateway: SimulatedGateway) -> Callable[[float], None]:
        def happens(now_s: float) -> None:
            gone = gateway.lost(now_s)
            self.life.restored_at_once += len(gateway.pictures)
            self._asked += [(gateway, worker) for worker in gone]
            self._start_some(now_s)

        return happens

    def _start_some(self, now_s: float) -> None:
        """The placer: first come, first served, on spare GPUs, a few at once."""
        while self._asked and self._spares and self._starting < STARTS_AT_ONCE:
            gateway, worker = self._asked.pop(0)
            self._spares, self._starting = self._spares - 1, self._starting + 1
            self.at(now_s + self.figures.worker_start_s, self._started(gateway, worker))

    def _started(self, gateway: SimulatedGateway, worker: SimulatedWorker) -> Callable[[float], None]:
        def happens(now_s: float) -> None:
            self._starting -= 1
            self.life.replaced_workers += 1
            worker.rack = -1  # elsewhere
            gateway.replaced(worker, now_s)
            self._start_some(now_s)

        return happens
