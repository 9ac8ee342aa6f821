"""Measures the processor time of the product's policy in one gateway, by its numbers of workers and sessions.

This is the real registry with the real search; only the sessions in it are stand-ins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from benchmarks.fleet.stand_ins import SimulatedDevice, SimulatedSession, SimulatedWorker
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.registry import Sessions
from server.gateway.session import GatewaySession
from server.metrics import Metrics

SIZES = ((1, 100), (5, 500), (10, 1000), (100, 10_000))
ROUNDS = 3


class _LoadedSessions(Sessions):
    def load(self, sessions: Iterable[SimulatedSession]) -> None:
        """Enter sessions without counting them one by one."""
        self._by_id.update((each.id, cast(GatewaySession, each)) for each in sessions)


def policy_costs(device: SimulatedDevice, sizes: Sequence[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Milliseconds of processor time: choosing workers for one session, and updating the gauges once."""
    rows = []
    for workers, count in sizes:
        stands = [SimulatedWorker(f"w{n}", 0, device) for n in range(workers)]
        sessions = _LoadedSessions(cast(Any, None), Metrics(), time.monotonic)
        fleet = Fleet(cast(Sequence[Supervisor], stands), sessions)
        made = [SimulatedSession(f"s{n}", watched=n % 3 == 0) for n in range(count)]
        for n, session in enumerate(made):
            session.worker = stands[n % workers].name
        sessions.load(made)
        rows.append(
            {
                "workers": workers,
                "sessions": count,
                "choose a worker, ms": _best_ms(fleet.accepting),
                "update the gauges, ms": _best_ms(sessions.count),
            }
        )
    return rows


def _best_ms(call: Callable[[], object]) -> float:
    """The best of a few: what other work on the machine did to the others is not of interest."""
    times = []
    for _ in range(ROUNDS):
        start_s = time.thread_time()
        call()
        times.append(time.thread_time() - start_s)
    return round(1000 * min(times), 3)
