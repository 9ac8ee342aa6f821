"""Workers as child processes on this machine, which end with their placer: the placer without Ray."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from server.cluster.placement.base import PlacedStage, PlacedWorker, PlacementFailed, PlacementHost, Survey
from server.cluster.placement.keeper import Keeper, environment_of_child
from server.gpus import VISIBLE


class LocalPlacer:
    """`arguments` returns those of `psistream worker` for a name. With `devices`, each worker has one of them
    for itself, and there are no more workers than devices."""

    def __init__(
        self,
        arguments: Callable[[str], Sequence[str]],
        *,
        devices: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        host: str | None = None,
        log: IO[str] | None = None,
    ) -> None:
        self._arguments, self._devices, self._log = arguments, tuple(devices), log
        self._environment = environment_of_child(os.environ if environment is None else environment)
        self._host = host or socket.gethostname()
        self._keepers: dict[str, Keeper] = {}
        self._device_of: dict[str, str] = {}

    @property
    def pids(self) -> dict[str, int]:
        """Of the workers that run."""
        return {name: each.pid for name, each in self._keepers.items() if each.pid and not each.ended}

    async def survey(self) -> Survey:
        workers = {
            name: PlacedWorker(
                name, PlacedStage.ENDED if each.ended else PlacedStage.RUNNING, self._host, each.why
            )
            for name, each in self._keepers.items()
        }
        free = len(self._unused()) if self._devices else os.cpu_count() or 1
        return Survey(workers, {self._host: PlacementHost(self._host, free=free)})

    async def place(self, name: str, avoid: frozenset[str]) -> None:
        if self._host in avoid:
            raise PlacementFailed(f"{self._host} is drained, and workers are placed on this machine only")
        environment = dict(self._environment)
        if self._devices:
            unused = self._unused()
            if not unused:
                raise PlacementFailed(f"no GPU free: each of {len(self._devices)} has a worker")
            environment[VISIBLE] = self._device_of[name] = unused[0]
        arguments = self._arguments(name)
        self._keepers[name] = await asyncio.to_thread(Keeper, arguments, environment, self._log)

    async def kill(self, name: str) -> None:
        keeper = self._keepers.get(name)
        if keeper is not None:
            await asyncio.to_thread(keeper.stop)
            self._keepers.pop(name, None)
            self._device_of.pop(name, None)

    async def leave(self, host: str) -> None:
        raise PlacementFailed("workers are placed on this machine only, and nobody owns it but you")

    async def close(self) -> None:
        await asyncio.gather(*(self.kill(name) for name in list(self._keepers)))

    def _unused(self) -> list[str]:
        return [device for device in self._devices if device not in self._device_of.values()]
