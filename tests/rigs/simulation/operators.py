"""Operators of a simulated cluster, who move sessions and drain workers."""

from __future__ import annotations

import asyncio
import contextlib

from engine.errors import PsistreamError
from tests.rigs.simulation.clients import Clients
from tests.rigs.simulation.cluster import Node, SimulatedCluster


class Operators:
    def __init__(self, cluster: SimulatedCluster, clients: Clients) -> None:
        self._cluster, self._clients = cluster, clients

    async def move(self, node: Node, name: str, chosen: int) -> None:
        gateway = node.gateway
        session = gateway.sessions.get(name) if gateway else None
        if gateway is None or session is None or session.moving or session.handover is not None:
            return
        others = [worker for worker in gateway.fleet if worker.name != session.worker]
        if others and not session.orphaned:
            target = others[chosen % len(others)]
            self._cluster.note(f"{node.name}: move {name} from {session.worker} to {target.name}")
            done = await gateway.parts.migration.move(session, target)
            self._cluster.note(f"{node.name}: {'moved' if done else 'did not move'} {name} to {target.name}")

    async def drain(self, node: Node, worker: str) -> None:
        assert node.gateway is not None
        with contextlib.suppress(PsistreamError):
            node.gateway.drain(worker)
            self._cluster.note(f"{node.name}: drain {worker}")
            await asyncio.sleep(10.0)
            await self._end_drain(node, worker)

    def take_back(self) -> None:
        """What could not be taken back while there was a fault."""
        for node in self._cluster.gateways:
            for worker in node.gateway.fleet if node.gateway is not None else ():
                if worker.draining:
                    self._clients.at(node, self._end_drain(node, worker.name))

    async def _end_drain(self, node: Node, worker: str) -> None:
        with contextlib.suppress(PsistreamError):
            if node.gateway is not None:
                node.gateway.take_back(worker)
