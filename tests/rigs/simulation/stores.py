"""A store of sessions (`--snapshots`) that all gateways of a simulated cluster use: it is slow now and then,
and away for a while. Gateways may be lost for good.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from server.gateway.storage.stores.base import StoreFailed
from server.storage import StorageConfig
from tests.rigs.simulation.cluster import Node, SimulatedCluster
from tests.rigs.simulation.loop import PROCESS

STORAGE = StorageConfig("file:///simulated")
USUAL_S, SELDOM_S, SELDOM = 0.02, 2.0, 0.05  # delays


class SimulatedStore:
    """Has the interface of SessionStore. An operation that takes effect may fail nevertheless."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.kept: dict[str, bytes] = {}
        self.away = False

    async def get(self, name: str) -> bytes | None:
        await self._wait()
        found = self.kept.get(name)
        await self._wait()
        return found

    async def put(self, name: str, data: bytes) -> None:
        await self._wait()
        self.kept[name] = data
        await self._wait()

    async def delete(self, name: str) -> None:
        await self._wait()
        self.kept.pop(name, None)
        await self._wait()

    async def names(self, folder: str) -> list[str]:
        await self._wait()
        return sorted(name.partition("/")[2] for name in self.kept if name.startswith(f"{folder}/"))

    async def swap(self, name: str, old: bytes | None, new: bytes) -> bool:
        await self._wait()
        fits = self.kept.get(name) == old
        if fits:
            self.kept[name] = new
        await self._wait()
        return fits

    async def expire(self, keep_s: float) -> None:
        await self._wait()

    async def close(self) -> None:
        pass

    async def _wait(self) -> None:
        seldom = self._chance.random() < SELDOM
        await asyncio.sleep(self._chance.random() * (SELDOM_S if seldom else USUAL_S))
        if self.away:
            raise StoreFailed("the store is away")


class Stores:
    def __init__(self, cluster: SimulatedCluster, seed: int) -> None:
        self._cluster = cluster
        self.store = SimulatedStore(random.Random(f"{seed} store"))

    @contextmanager
    def used(self) -> Iterator[None]:
        """Gateways that are started save their sessions there. Each knows of its own host's processes which
        have ended."""
        marks = "server.gateway.storage.ownership"
        self._cluster.storage, self._cluster.kept = STORAGE, self.keeps
        with ExitStack() as stack:
            for patched in (
                patch("server.gateway.storage.outside.open_store", lambda config: self.store),
                patch(f"{marks}._machine", lambda: self._here().name),
                patch(f"{marks}._started", self._started),
                patch(f"{marks}.os.getpid", lambda: self._here().runs),
            ):
                stack.enter_context(patched)
            yield

    def keeps(self, session: str) -> bool:
        return f"sessions/{session}" in self.store.kept

    def _here(self) -> Node:
        process = PROCESS.get()
        assert process is not None
        return self._cluster.node(process.name)

    def _started(self, pid: int) -> str:
        here = self._here()
        return str(pid) if pid == here.runs and here.alive else ""

    def go_away(self, for_s: float) -> None:
        self._cluster.note(f"the store is away for {for_s:g} s")
        self.store.away = True
        self._cluster.loop.call_later(for_s, self.come_back)

    def come_back(self) -> None:
        self.store.away = False

    def lose(self, gateway: Node) -> bool:
        """It will not be started again, unless it is the last one."""
        others = [node for node in self._cluster.gateways if not node.lost and node is not gateway]
        gateway.lost = gateway.lost or bool(others)
        return gateway.lost
