"""Two gateways that no worker has in common, with a copy of a session each, learn of each other from the
directory. Seconds are virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.rigs.simulation.verdict import copies_of, owners_of
from tests.rigs.simulation.world import World, simulate
from tests.server.simulation.test_cuts import gateway_of

SEED = 1
SOON_S = 4.0  # reports and rosters come once a second


async def until(true: Callable[[], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def apart(world: World) -> str:
    """g1 goes on with a session in a worker that g2 does not reach, and g2 has claimed the copy that g1 does
    not reach any more, since the directory had lost g1."""
    cluster, clients = world.cluster, world.clients
    await world.start()
    await asyncio.sleep(3.5)
    g1, g2 = cluster.gateways
    assert g1.process is not None
    await g1.process.spawn(clients.open(g1), "script")
    (name,) = clients.fates
    session = gateway_of(g1).session(name)
    first = session.worker
    second = next(node.name for node in cluster.workers if node.name != first)
    for one, other in (("g2", second), ("g1", first), ("g1", "d")):
        cluster.network.cut(one, other, seen=False, one_way=False)
    await until(lambda: name in gateway_of(g2).sessions and session.worker == second, 20.0)
    await asyncio.sleep(3.0)
    assert len(owners_of(cluster, name)) == len(copies_of(cluster, name)) == 2
    return name


def test_the_older_copy_gives_way() -> None:
    """They went on for ever."""

    async def script(world: World) -> None:
        name, cluster = await apart(world), world.cluster
        cluster.network.heal("g1", "d")
        await until(lambda: len(owners_of(cluster, name)) == len(copies_of(cluster, name)) == 1, 10.0)
        ((node, session),) = owners_of(cluster, name)
        assert node is cluster.gateways[0]
        assert [copy.name for copy in copies_of(cluster, name)] == [session.worker]
        owners = gateway_of(cluster.gateways[1]).peers
        await until(lambda: owners.owner_of(name) == "g1", SOON_S)
        await asyncio.sleep(5.0)
        assert len(owners_of(cluster, name)) == 1

    assert simulate(SEED, [], joined=True, script=script).wrong == []


def test_what_was_closed_meanwhile_is_closed_everywhere() -> None:
    async def script(world: World) -> None:
        name, cluster = await apart(world), world.cluster
        g1 = cluster.gateways[0]
        assert g1.process is not None
        await g1.process.spawn(world.clients.close(g1, name), "script")
        assert len(copies_of(cluster, name)) == 1
        cluster.network.heal("g1", "d")
        await until(lambda: not owners_of(cluster, name) and not copies_of(cluster, name), 10.0)

    assert simulate(SEED, [], joined=True, script=script).wrong == []
