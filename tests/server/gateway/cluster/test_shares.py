"""A client's share counts once over all gateways of a cluster, which the directory tells of each other."""

from __future__ import annotations

import pytest

from server.gateway.budget import OverBudget
from server.gateway.gateway import Gateway
from tests.rigs.server.directory_rig import directing
from tests.rigs.server.server_rig import until
from tests.server.gateway.cluster.joining import joined_gateway, joined_worker


def full(gate: Gateway, client: str) -> bool:
    """Whether the client may open no session here."""
    try:
        gate.sessions.budgets.enter(client)
    except OverBudget:
        return True
    gate.sessions.budgets.leave(client)
    return False


async def test_sessions_at_one_gateway_count_at_the_others() -> None:
    async with (
        directing() as (_, port),
        joined_worker(port, "a"),
        joined_worker(port, "b"),
        joined_gateway(port, "g1", client_sessions=2) as one,
        joined_gateway(port, "g2", client_sessions=2) as two,
    ):
        mine = await one.open("a dog", client="192.0.2.7")
        await two.open("a cat", client="192.0.2.7")
        await until(lambda: full(one, "192.0.2.7") and full(two, "192.0.2.7"), "both count both")
        with pytest.raises(OverBudget, match="2 sessions open"):
            await two.open("a fox", client="192.0.2.7")
        assert not full(one, "192.0.2.8")
        await one.close_session(mine.id)
        await until(lambda: not full(two, "192.0.2.7"), "a place")


async def test_device_time_used_at_one_gateway_is_used_up_at_the_others() -> None:
    async with (
        directing() as (_, port),
        joined_worker(port, "a"),
        joined_gateway(port, "g1", client_device_s=60.0) as one,
        joined_gateway(port, "g2", client_device_s=60.0) as two,
    ):
        for gate in (one, two):
            gate.sessions.budgets.spend("192.0.2.7", 35.0)
        for gate in (one, two):
            await until(lambda g=gate: g.sessions.budgets.over("192.0.2.7"), "both charges")  # type: ignore[misc]
