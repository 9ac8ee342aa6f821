"""What is done to a small cluster, and undone again: one class of fault per name."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.chaos.processes import ServerProcess, SmallCluster
from benchmarks.report import BenchError
from clients.http import http_client

HELD_S = 8.0  # how long a worker stays frozen or cut off: longer than the 6 s after which it is given up
BOTH_S = 4.0  # how long all are cut off: there is nowhere to go
AWAY_S = 5.0  # how long the directory is away
RESTART_S = 1.0  # until a killed process is started again
PATIENCE_S = 60.0  # for what ends a fault
ASK_EVERY_S, REQUEST_S = 0.05, 5.0


@dataclass(frozen=True)
class FaultKind:
    """`done` does it; what it awaits is over before the next fault. `everybody`: it concerns all sessions.
    It may need root, or a cluster with a directory."""

    name: str
    about: str
    everybody: bool
    done: Callable[[FaultHands, ServerProcess], Awaitable[None]]
    needs_root: bool = False
    needs_directory: bool = False


class FaultHands:
    """Does faults to a cluster. All times from time.perf_counter()."""

    def __init__(self, cluster: SmallCluster) -> None:
        self.cluster = cluster
        self.struck_s = 0.0  # when the latest fault was done
        self.noticed_s: float | None = None  # when the gateway first said that a worker is not well

    async def kill(self, worker: ServerProcess) -> None:
        self.struck_s = time.perf_counter()
        worker.kill()
        await self._restart(worker)

    async def freeze(self, worker: ServerProcess) -> None:
        self.struck_s = time.perf_counter()
        worker.signal(signal.SIGSTOP)
        await self._watch(HELD_S)
        worker.signal(signal.SIGCONT)

    async def cut(self, worker: ServerProcess) -> None:
        assert worker.host is not None
        self.struck_s = time.perf_counter()
        worker.host.cut()
        await self._watch(HELD_S)
        worker.host.heal()

    async def cut_all(self, _: ServerProcess) -> None:
        hosts = [worker.host for worker in self.cluster.workers if worker.host is not None]
        self.struck_s = time.perf_counter()
        for host in hosts:
            host.cut()
        await self._watch(BOTH_S)
        for host in hosts:
            host.heal()

    async def drain(self, worker: ServerProcess) -> None:
        async with http_client(self.cluster.base, REQUEST_S) as http:
            self.struck_s, self.noticed_s = time.perf_counter(), None
            (await http.post(f"v1/workers/{worker.name}/drain")).raise_for_status()
            async with asyncio.timeout(PATIENCE_S):
                while any(w["id"] == worker.name and w["sessions"] for w in await workers(http)):  # noqa: ASYNC110
                    await asyncio.sleep(ASK_EVERY_S)
            (await http.delete(f"v1/workers/{worker.name}/drain")).raise_for_status()

    async def gateway(self, _: ServerProcess) -> None:
        self.struck_s = time.perf_counter()
        self.cluster.gateway.kill()
        self.noticed_s = None
        await asyncio.sleep(RESTART_S)
        self.cluster.gateway.start()

    async def directory(self, _: ServerProcess) -> None:
        assert self.cluster.directory is not None
        self.struck_s, self.noticed_s = time.perf_counter(), None
        self.cluster.directory.kill()
        await asyncio.sleep(AWAY_S)
        self.cluster.directory.start()

    async def _restart(self, worker: ServerProcess) -> None:
        await self._watch(RESTART_S)
        worker.start()

    async def _watch(self, seconds: float) -> None:
        """Note when the gateway says that a worker is unwell, or gone."""
        self.noticed_s, until_s = None, time.perf_counter() + seconds
        async with http_client(self.cluster.base, REQUEST_S) as http:
            while (left_s := until_s - time.perf_counter()) > 0:
                if self.noticed_s is None:
                    states = [w["state"] for w in await workers(http)]
                    if any(state in ("unwell", "starting", "given_up") for state in states):
                        self.noticed_s = time.perf_counter()
                await asyncio.sleep(min(left_s, ASK_EVERY_S if self.noticed_s is None else left_s))


async def workers(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    """What the gateway says of its workers; empty if it says nothing."""
    try:
        found: list[dict[str, Any]] = (await http.get("v1/workers")).json()["workers"]
    except (httpx.HTTPError, ValueError, KeyError):
        return []
    return found


KINDS = {
    kind.name: kind
    for kind in (
        FaultKind("kill", "kill -9 of a worker, started again", False, FaultHands.kill),
        FaultKind("freeze", f"SIGSTOP of a worker for {HELD_S:g} s", False, FaultHands.freeze),
        FaultKind("drain", "a worker drained and taken back", False, FaultHands.drain),
        FaultKind("gateway", "kill -9 of the gateway, started again", True, FaultHands.gateway),
        FaultKind(
            "directory",
            f"kill -9 of the directory, started again after {AWAY_S:g} s",
            True,
            FaultHands.directory,
            needs_directory=True,
        ),
        FaultKind("cut", f"a worker's link down for {HELD_S:g} s", False, FaultHands.cut, needs_root=True),
        FaultKind(
            "cut-all",
            f"all workers' links down for {BOTH_S:g} s",
            True,
            FaultHands.cut_all,
            needs_root=True,
        ),
    )
}


def sequence(names: Sequence[str], seed: int) -> Iterator[str]:
    """Endless: each name once per round, in an order that the seed decides."""
    dice = random.Random(seed)
    while True:
        yield from dice.sample(list(names), len(names))


async def victim(cluster: SmallCluster, dice: random.Random) -> ServerProcess:
    """A worker that runs as many sessions as any. Raises BenchError."""
    async with http_client(cluster.base, REQUEST_S) as http:
        counts = {w["id"]: w["sessions"] for w in await workers(http)}
    if not any(counts.values()):
        raise BenchError("the gateway does not say where its sessions run")
    most = [worker for worker in cluster.workers if counts.get(worker.name) == max(counts.values())]
    return dice.choice(most)
