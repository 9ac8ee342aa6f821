"""What else may fail between a gateway and two hosts: frozen workers, gateways, drains, all links at once."""

from __future__ import annotations

import random
import time

import pytest

from benchmarks.chaos.audience import Audience
from benchmarks.chaos.faults import KINDS, FaultHands, victim
from benchmarks.chaos.processes import small_cluster
from benchmarks.network.hosts import host_network
from tests.rigs.waiting import LONG_S
from tests.server.hosts.test_two_hosts import FAKE, assert_nothing_was_lost

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize(
    ("name", "directory"),
    [(name, kind.needs_directory) for name, kind in KINDS.items()] + [("gateway", True), ("kill", True)],
)
async def test_nothing_is_lost_by_one_fault_and_the_same_again(name: str, directory: bool) -> None:
    kind, dice = KINDS[name], random.Random(1)
    with host_network(2) as network, small_cluster(2, FAKE, network, directory=directory) as cluster:
        async with Audience(cluster.base, 3, prompt_every_s=1.0) as audience:
            hands = FaultHands(cluster)
            for _ in range(2):
                await kind.done(hands, await victim(cluster, dice))
                assert await audience.back(time.perf_counter(), LONG_S)
                cluster.wait_ready()
            await audience.settle()
            assert_nothing_was_lost(audience)
