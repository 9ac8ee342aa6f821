"""Clusters that are full, and clients that use up their share: who is refused, and who is throttled."""

from __future__ import annotations

import asyncio

from engine.errors import PsistreamError
from tests.rigs.simulation.clients import Clients
from tests.rigs.simulation.cluster import Node, SimulatedCluster

PROBES, EVERY_S = 4, 5.0


def client(number: int) -> str:
    return f"192.0.2.{number % 2 + 1}"


def faults(cluster: SimulatedCluster) -> list[str]:
    """Who counts or throttles wrongly."""
    found = []
    for node in cluster.gateways:
        if node.gateway is None:
            continue
        for name in map(client, range(2)):
            account = node.gateway.sessions.budgets._accounts.get(name)
            counted = account.sessions if account is not None else 0
            has = sum(session.client == name for session in node.gateway.sessions)
            if counted != has:
                found.append(f"{node.name} counts {counted} sessions of {name}, which has {has} there")
        for session in node.gateway.sessions:
            device = cluster.node(session.worker).device if session.worker else None
            copy = device.copies.get(session.id) if device is not None else None
            told = copy is not None and copy.viewers is not None and copy.viewers.throttled
            if copy is not None and told != session.audience().throttled:
                found.append(f"{session.id} is throttled: {told} in {session.worker}, not so at {node.name}")
            if session.throttled and session.client is None:
                found.append(f"{session.id} is throttled, and is nobody's")
    return found


async def probe(cluster: SimulatedCluster, clients: Clients, node: Node) -> None:
    """Whoever asks while there is a place must get one, soon."""
    assert node.gateway is not None
    for _ in range(PROBES):
        devices = [each.device for each in cluster.workers if each.device is not None]
        free = any(device.has_place for device in devices)
        try:
            session = await node.gateway.open("a probe", 1)
        except PsistreamError as error:
            why = error.message
        else:
            await node.gateway.close_session(session.id)
            return
        if not free:
            return
        await asyncio.sleep(EVERY_S)
    clients.wrong.append(f"{node.name} opens nothing, though there are places: {why}")
