"""A cluster of real processes on loopback: a directory, workers with the fake backend, and gateways."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.network.ports import free_port
from tests.rigs.paths import ROOT
from tests.rigs.waiting import LONG_S, until_found

API_KEY = "0123456789abcdeffedcba9876543210"
STARTS_S = 120.0


class Cluster:
    """Processes by name. `urls` has the HTTP addresses of the gateways."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.key = folder, folder / "cluster.key"
        self.key.write_text("fedcba98765432100123456789abcdef\n")
        self.key.chmod(0o600)
        self.port = free_port()
        self.directory = f"tcp://127.0.0.1:{self.port}"
        self.urls: dict[str, str] = {}
        self.processes: dict[str, Process] = {}

    async def up(self) -> None:
        await self._start(
            "directory", "cluster", "up", "--listen", f"127.0.0.1:{self.port}", "--key-file", str(self.key)
        )

    async def worker(self, name: str, *more: str) -> None:
        join = [
            "--join",
            self.directory,
            "--name",
            name,
            "--key-file",
            str(self.key),
            "--on-host",
            f"h-{name}",
        ]
        await self._start(name, "worker", "--backend", "fake", "--listen", "127.0.0.1:0", *join, *more)

    async def gateway(self, name: str, *more: str) -> None:
        port = free_port() if name not in self.urls else httpx.URL(self.urls[name]).port
        self.urls[name] = f"http://127.0.0.1:{port}"
        join = ["--join", self.directory, "--name", name, "--join-key-file", str(self.key)]
        own = ["--port", str(port), "--mqtt", "off", "--api-key", API_KEY]
        await self._start(name, "serve", *own, *join, *more)

    async def _start(self, name: str, *command: str) -> None:
        """Return once the process says that it is there."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "server.cli", *command),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
        self.processes[name] = process
        assert process.stdout is not None
        async with asyncio.timeout(STARTS_S):
            said = await process.stdout.readline()
        assert said, (self.folder / f"{name}.log").read_text()

    async def end(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        await process.wait()

    async def ask(self, gateway: str, method: str, path: str, **given: Any) -> Any:
        key = {"Authorization": f"Bearer {API_KEY}"}
        url = self.urls[gateway]
        async with httpx.AsyncClient(base_url=url, timeout=LONG_S, trust_env=False, verify=False) as http:
            answer = await http.request(method, path, headers=key, **given)
            answer.raise_for_status()
            return answer.json()

    async def answered(self, gateway: str, method: str, path: str, **given: Any) -> Any:
        """Ask again as long as the session's gateway is away."""
        while True:
            try:
                return await self.ask(gateway, method, path, **given)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 503:
                    raise
            await asyncio.sleep(0.2)

    async def open(self, gateway: str) -> str:
        made = await self.ask(gateway, "POST", "/v1/sessions", json={"prompt": "a dog"})
        return str(made["id"])

    async def sessions(self, gateway: str) -> set[str]:
        listed = await self.ask(gateway, "GET", "/v1/sessions")
        return {each["id"] for each in listed["sessions"]}

    async def until_sessions(self, gateway: str, wanted: set[str], within_s: float = LONG_S) -> None:
        what = f"{wanted} at {gateway}"
        await until_found(lambda: self.sessions(gateway), wanted.issubset, what, within_s)

    async def until_placed(self, gateway: str, wanted: dict[str, int]) -> None:
        """Until the workers have so many sessions. They tell a moment later which are other gateways'."""

        async def placed() -> dict[str, int]:
            workers = (await self.ask(gateway, "GET", "/v1/workers"))["workers"]
            return {worker["id"]: worker["sessions"] for worker in workers if worker["sessions"]}

        await until_found(placed, wanted.__eq__, f"{wanted} at {gateway}")

    async def until_unready(self, gateway: str, reason: str) -> None:
        """Until its /readyz answers 503 with this among the reasons."""
        async with asyncio.timeout(LONG_S), httpx.AsyncClient(trust_env=False) as http:
            while True:
                told = await http.get(f"{self.urls[gateway]}/readyz")
                if told.status_code == 503 and reason in str(told.json()["reasons"]):
                    return
                await asyncio.sleep(0.2)

    async def command(self, *words: str) -> str:
        """What a `psistream cluster` command prints."""
        asks = ["--directory", self.directory, "--key-file", str(self.key)]
        return await self._said("cluster", *words, *asks)

    async def doctor(self) -> str:
        """What it prints for a gateway that would join."""
        return await self._said(
            *("doctor", "--join", self.directory, "--join-key-file", str(self.key), "--mqtt", "off")
        )

    async def _said(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server.cli", *command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        said, _ = await process.communicate()
        return said.decode()


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    made = Cluster(folder)
    try:
        yield made
    finally:
        for name in list(made.processes):
            with contextlib.suppress(ProcessLookupError):
                await made.end(name)
