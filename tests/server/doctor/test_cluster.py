"""The doctor of a gateway in a cluster: is there a directory, and can gateways and workers be reached?"""

from __future__ import annotations

import pytest

from benchmarks.network.ports import free_port
from server.cluster.messages import JoinGateway, JoinWorker, WorkerReport
from server.config import ServerConfig
from server.doctor import cluster
from tests.rigs.server.directory_rig import directing, member
from tests.rigs.server.port_rig import KEY, listening
from tests.rigs.waiting import until


async def found(config: ServerConfig) -> list[tuple[str, str, str]]:
    return [(each.about, each.state, each.text) async for each in cluster.others(config)]


async def test_directory_and_workers_are_tried() -> None:
    away, nowhere = free_port(), f"http://127.0.0.1:{free_port()}"
    async with directing() as (_, port), listening() as (_, there):
        one = JoinWorker("w1", f"tcp://127.0.0.1:{there}", "a", instance="1")
        other = JoinWorker("w2", f"tcp://127.0.0.1:{away}", "b", instance="2")
        gateway = JoinGateway("g1", nowhere, "3")
        async with (
            member(port, one, WorkerReport()),
            member(port, other, WorkerReport()),
            member(port, gateway) as g1,
        ):
            await until(lambda: len(g1.roster.workers) == 2, "both workers")
            url = f"tcp://127.0.0.1:{port}"
            told = await found(ServerConfig(join=url, worker_key=KEY, placement="remote", name="g2"))
    assert told[0] == ("directory", "good", f"{url} answers; other gateways: g1")
    assert sorted(told[1:]) == [
        (
            "gateway",
            "bad",
            f"g1 cannot be reached from here: {nowhere} leads nowhere: All connection attempts failed",
        ),
        ("worker", "bad", f"tcp://127.0.0.1:{away}: Connection refused"),
        ("worker", "good", f"tcp://127.0.0.1:{there} can be reached"),
    ]


async def test_a_directory_that_is_away_or_has_another_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with directing() as (_, port):
        other = ServerConfig(join=f"tcp://127.0.0.1:{port}", worker_key=b"x" * 32, placement="remote")
        ((about, state, text),) = await found(other)
    assert (about, state) == ("directory", "bad")
    assert "another key" in text
    monkeypatch.setattr(cluster, "ANSWER_S", 0.5)
    away = ServerConfig(join=f"tcp://127.0.0.1:{free_port()}", worker_key=KEY, placement="remote")
    assert [(about, state) for about, state, _ in await found(away)] == [("directory", "bad")]


async def test_a_server_with_workers_of_its_own_has_nothing_to_reach() -> None:
    assert await found(ServerConfig()) == []
