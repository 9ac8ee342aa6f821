"""A gateway and two workers on hosts of their own (network namespaces), with real viewers: sessions go on
when a worker is killed, and when its host is cut off."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from benchmarks.chaos.audience import Audience
from benchmarks.chaos.faults import workers
from benchmarks.chaos.figures import prompt_figures
from benchmarks.chaos.processes import ServerProcess, SmallCluster, small_cluster
from benchmarks.network.hosts import host_network
from clients.http import http_client
from tests.rigs.waiting import LONG_S

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

FAKE = ("--backend", "fake", "--max-load", "8")


async def known_workers(cluster: SmallCluster) -> dict[str, dict[str, Any]]:
    async with http_client(cluster.base, 10.0) as http:
        return {worker["id"]: worker for worker in await workers(http)}


async def busiest(cluster: SmallCluster) -> ServerProcess:
    counts = {name: worker["sessions"] for name, worker in (await known_workers(cluster)).items()}
    return max(cluster.workers, key=lambda worker: counts[worker.name])


async def empty(cluster: SmallCluster, worker: ServerProcess) -> None:
    """Wait until this worker runs, and no session in it, as it says itself."""
    async with asyncio.timeout(LONG_S):
        while True:
            known = (await known_workers(cluster))[worker.name]
            if known["state"] == "running" and known["capacity"] and known["capacity"]["open"] == 0:
                return
            await asyncio.sleep(0.2)


def assert_nothing_was_lost(audience: Audience) -> None:
    """No session, no prompt; nothing was shown twice, and time went on."""
    assert audience.lost == []
    seen = [reader.seen for reader in audience.readers]
    figures = prompt_figures(audience.prompts, seen)
    wrong = {name: n for name, (n, unit) in figures.items() if unit.startswith("of") and n}
    assert wrong == {}
    assert all(any(p.status == "applied" for p in audience.prompts) for _ in seen)
    assert [each.backwards(0.0, float("inf")) for each in seen] == [0] * len(seen)
    assert [each.repeated(0.0, float("inf")) for each in seen] == [0] * len(seen)


async def test_sessions_go_on_in_the_other_host() -> None:
    """One worker is killed, and the one that took over is cut off. That one drops its copies when it is
    back, and shows nothing of them."""
    with host_network(2) as network, small_cluster(2, FAKE, network) as cluster:
        async with Audience(cluster.base, 2, prompt_every_s=1.0) as audience:
            killed = await busiest(cluster)
            struck_s = time.perf_counter()
            killed.kill()
            assert await audience.back(struck_s, LONG_S)
            killed.start()
            await empty(cluster, killed)
            cut = await busiest(cluster)
            assert cut is not killed
            assert cut.host is not None
            struck_s = time.perf_counter()
            cut.host.cut()
            assert await audience.back(struck_s, LONG_S)
            assert await busiest(cluster) is killed
            cut.host.heal()
            await empty(cluster, cut)
            assert await audience.back(time.perf_counter(), LONG_S)
            await audience.settle()
            assert_nothing_was_lost(audience)
