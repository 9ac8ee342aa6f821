"""Measures the processor time of the product's policy in one gateway, by its numbers of workers and sessions.

The registry's index, the choice of a worker and failover are the product's own; the sessions and workers are
stand-ins, and nothing is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from benchmarks.fleet.stand_ins import SimulatedDevice, SimulatedSession, SimulatedSessions, SimulatedWorker
from server.gateway.failover import Failover
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession

SIZES = ((1, 100), (5, 500), (10, 1000), (100, 10_000))
ROUNDS = 3


def policy_costs(device: SimulatedDevice, sizes: Sequence[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Milliseconds of processor time: choosing workers for one session, and losing a tenth of the workers at
    once, as a rack does, at least one."""
    rows = []
    for workers, count in sizes:
        chosen_ms = _best_ms(_loaded(device, workers, count)[0].to_ask)
        lost_ms = min(_lost_ms(*_loaded(device, workers, count)) for _ in range(ROUNDS))
        rows.append(
            {
                "workers": workers,
                "sessions": count,
                "choose a worker, ms": chosen_ms,
                "lose a tenth of the workers, ms": lost_ms,
            }
        )
    return rows


def _loaded(
    device: SimulatedDevice, workers: int, count: int
) -> tuple[Fleet, SimulatedSessions, list[SimulatedWorker]]:
    stands = [SimulatedWorker(f"w{n}", 0, device) for n in range(workers)]
    sessions = SimulatedSessions()
    fleet = Fleet(cast(Sequence[Supervisor], stands), cast(Sessions, sessions))
    for n in range(count):
        sessions.assign(SimulatedSession(f"s{n}", watched=n % 3 == 0), stands[n % workers].name)
    return fleet, sessions, stands


def _lost_ms(fleet: Fleet, sessions: SimulatedSessions, stands: list[SimulatedWorker]) -> float:
    gone = stands[: (len(stands) + 9) // 10]
    failover = _Unsent(cast(Sessions, sessions), fleet, cast(Any, None), cast(Any, None), 10.0)
    start_s = time.thread_time()
    for worker in gone:
        worker.ready = worker.capacity = None
    for worker in gone:
        failover.worker_lost(cast(Supervisor, worker))
    return round(1000 * (time.thread_time() - start_s), 3)


class _Unsent(Failover):
    """The product's order and choice, without the session's own loss and restoration."""

    def _lose(self, session: GatewaySession, back_in_s: float, *, blameless: bool) -> None:
        session.orphaned = True

    def restore(self, session: GatewaySession, worker: Supervisor) -> None:
        self._sessions.assign(session, worker.name)
        session.orphaned = False


def _best_ms(call: Callable[[], object]) -> float:
    """The best of a few: what other work on the machine did to the others is not of interest."""
    times = []
    for _ in range(ROUNDS):
        start_s = time.thread_time()
        call()
        times.append(time.thread_time() - start_s)
    return round(1000 * min(times), 3)
