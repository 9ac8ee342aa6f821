"""Ray on hosts of its own, a directory that places workers there, and somebody who watches a session."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.types import OpenSession
from server.cluster.membership import Membership
from server.cluster.messages import PlacementReport, Roster, Watch, WorkerEntry
from server.worker.base import Event
from server.worker.messages.commands import SetViewers
from server.worker.messages.events import Packet
from server.worker.remote import RemoteWorker, WorkerAddress
from tests.rigs.cluster.machines import Machine, machines
from tests.rigs.paths import ROOT
from tests.rigs.waiting import until

PSISTREAM = [sys.executable, "-m", "server.cli"]
HEAD_PORT, DIRECTORY_PORT, REDIS_PORT = 6379, 7700, 6380
STARTED, TRIES = "Ray runtime started.", 3
SLOW_S = 240.0  # for what takes seconds on a machine that is not busy


@dataclass
class RayCluster:
    """Machine `a` has Ray's head, the directory and the placer."""

    machines: list[Machine]
    key: bytes
    key_file: Path
    environment: dict[str, str]
    redis: bool
    roster: Roster = field(default_factory=Roster)

    @property
    def placement(self) -> PlacementReport:
        return self.roster.placement or PlacementReport(0)

    @property
    def notes(self) -> str:
        return "\n".join(self.placement.notes)

    @property
    def address(self) -> WorkerAddress:
        return WorkerAddress(self.machines[0].address, DIRECTORY_PORT)

    def machine_of(self, worker: WorkerEntry) -> Machine:
        return next(machine for machine in self.machines if machine.address == worker.host)

    def start_redis(self) -> None:
        """On the last machine; what it has stored it finds again."""
        machine = self.machines[-1]
        told = ["--port", str(REDIS_PORT), "--protected-mode", "no", "--dir", str(self.key_file.parent)]
        redis = shutil.which("redis-server") or "redis-server"
        machine.start("redis", [redis, *told, "--appendonly", "yes", "--appendfsync", "always"], {})

    async def start_ray(self, number: int, gpus: int) -> None:
        """Ray gives up if it has not started within 30 s, which a busy machine may not manage at once."""
        machine, head = self.machines[number], self.machines[0]
        command = [
            *PSISTREAM,
            "cluster",
            "ray",
            "--address",
            machine.address,
            "--gpus",
            str(gpus),
            "--cpus",
            "8",
        ]
        if number:
            command += ["--head", f"{head.address}:{HEAD_PORT}"]
        elif self.redis:
            command += ["--redis", f"{self.machines[-1].address}:{REDIS_PORT}"]
        for _ in range(TRIES):
            if await self._begins(machine, command):
                return
        raise AssertionError(machine.log("ray")[-2000:])

    async def _begins(self, machine: Machine, command: list[str]) -> bool:
        begun = machine.log("ray").count(STARTED)
        process = machine.start("ray", command, self.environment)

        def is_known() -> bool:
            return machine.log("ray").count(STARTED) > begun or process.poll() is not None

        await until(is_known, "Ray", SLOW_S)
        return process.poll() is None

    def start_placer(self, workers: int, *options: str) -> None:
        head = self.machines[0]
        command = [*PSISTREAM, "cluster", "up", "--workers", str(workers), "--backend", "fake", *options]
        command += ["--ray", f"{head.address}:{HEAD_PORT}", "--listen", str(self.address).partition("://")[2]]
        head.start("placer", [*command, "--key-file", str(self.key_file)], self.environment)

    async def has(self, count: int) -> dict[str, WorkerEntry]:
        """Wait until this number of workers runs, all of them as placed, and the placer has no complaint."""

        def all_run() -> bool:
            running = {worker.name for worker in self.placement.workers if worker.stage == "running"}
            ready = {worker.name for worker in self.roster.workers if worker.ready}
            told = self.roster.placement is not None and "does not answer" not in self.notes
            return told and len(ready) == count and running == ready

        await until(all_run, f"{count} running workers: {self.notes}", SLOW_S)
        return {worker.name: worker for worker in self.roster.workers if worker.ready}


@contextlib.asynccontextmanager
async def ray_cluster(
    gpus: tuple[int, ...], workers: int, logs: Path, *, redis: bool = False
) -> AsyncIterator[RayCluster]:
    """A machine for each number of GPUs, and the workers, all of which run."""
    token, key, key_file = secrets.token_hex(16), secrets.token_hex(16), logs / "cluster.key"
    key_file.write_text(key, "utf-8")
    key_file.chmod(0o600)
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "PYTHONPATH": str(ROOT)}
    with machines("abcdef"[: len(gpus)], logs) as made:
        rig = RayCluster(made, key.encode(), key_file, environment, redis)

        def told(roster: Roster) -> None:
            rig.roster = roster

        if redis:
            rig.start_redis()
        for number, count in enumerate(gpus):
            await rig.start_ray(number, count)
        rig.start_placer(workers)
        async with Membership(rig.address, rig.key, None, Watch, told):
            await rig.has(workers)
            yield rig


class Onlooker:
    """Has a session in a worker and gets its packets, without any gateway."""

    def __init__(self, rig: RayCluster, worker: WorkerEntry) -> None:
        self.packets = 0
        self._worker = RemoteWorker(WorkerAddress.parse(worker.url), rig.key, None, self._heard)

    async def __aenter__(self) -> Onlooker:
        await self._worker.start()
        self._worker.send(OpenSession("watched", "a meadow", 1))
        self._worker.send(SetViewers("watched", {"vp8": 1}, count=1))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._worker.close()

    async def sees_more(self) -> None:
        """Wait for another three seconds of video."""
        before = self.packets
        await until(lambda: self.packets >= before + 48, "packets", SLOW_S)

    def _heard(self, event: Event) -> None:
        self.packets += isinstance(event, Packet)
