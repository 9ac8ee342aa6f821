"""The placer on Ray: it asks a child process, the driver, and limits the time of every answer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import Unavailable
from server.cluster.placement.base import PlacedStage, PlacedWorker, PlacementFailed, PlacementHost, Survey
from server.cluster.placement.on_ray import settings

log = logging.getLogger(__name__)

DRIVER = "server.cluster.placement.on_ray.driver"
OPEN_PROBE = "server.cluster.placement.on_ray.open_probe"
REACH_S, PROBE_S, CONNECT_S, CALL_S, CLOSE_S = 5.0, 15.0, 45.0, 15.0, 2.0
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
LIMIT = 1 << 24  # of an answer
NO_TOKEN = (
    "Ray's ports run what anybody sends them unless a token is asked for: set RAY_AUTH_MODE=token and "
    "RAY_AUTH_TOKEN_PATH=FILE here and on all of Ray's hosts"
)
MISMATCH = re.compile(
    r"Version mismatch: The cluster was started with: Ray: (\S+) Python: (\S+) This process .{0,80}"
    r"was started with: Ray: (\S+) Python: (\S+)"
)
INSTALL = "pip install 'psistream[cluster]'"


class RayPlacer:
    """`arguments` returns those of `psistream worker` for a name; HOST in them becomes the host's address.
    Workers outlive it. Raises Unavailable if Ray is not installed
    or no token is set."""

    def __init__(
        self,
        address: str,
        arguments: Callable[[str], Sequence[str]],
        *,
        namespace: str = "psistream",
        gpus: float = 1.0,
        cpus: float = 1.0,
        labels: dict[str, str] | None = None,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise Unavailable(f"--ray needs Ray: {INSTALL}, on each host", field="ray")
        if os.environ.get("RAY_AUTH_MODE") != "token":
            raise Unavailable(NO_TOKEN, field="ray")
        self._address, self._arguments, self._namespace = address, arguments, namespace
        self._needs = {"gpus": gpus, "cpus": cpus, "labels": labels or {}}
        self._driver: Process | None = None
        self._lock = asyncio.Lock()  # the driver answers in order
        self._wait_s, self._next_s = 0.0, float("-inf")
        self._why = ""
        self._warnings: tuple[str, ...] = ()

    async def survey(self) -> Survey:
        told = await self._ask("survey", {})
        workers = {
            name: PlacedWorker(**{**each, "stage": PlacedStage(each["stage"])})
            for name, each in told["workers"].items()
        }
        hosts = {name: PlacementHost(**each) for name, each in told["hosts"].items()}
        return Survey(workers, hosts, self._warnings)

    async def place(self, name: str, avoid: frozenset[str]) -> None:
        told = {"name": name, "arguments": list(self._arguments(name)), "avoid": sorted(avoid)}
        await self._ask("place", told)

    async def kill(self, name: str) -> None:
        await self._ask("kill", {"name": name})

    async def leave(self, host: str) -> None:
        await self._ask("leave", {"host": host})

    async def close(self) -> None:
        await self._end()

    # ---- the driver ----

    async def _ask(self, verb: str, given: dict[str, Any]) -> Any:
        async with self._lock:
            await self._connect()
            return await self._call(verb, given, CALL_S)

    async def _connect(self) -> None:
        if self._driver is not None and self._driver.returncode is None:
            return
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_s:
            raise PlacementFailed(self._why)
        try:
            await self._check_head()
            await self._start_driver()
        except PlacementFailed as error:
            await self._end()
            self._wait_s = min(LONGEST_WAIT_S, max(FIRST_WAIT_S, 2 * self._wait_s))
            self._next_s, self._why = asyncio.get_running_loop().time() + self._wait_s, error.message
            raise
        self._wait_s = 0.0

    async def _start_driver(self) -> None:
        await self._end()
        self._driver = await asyncio.create_subprocess_exec(
            sys.executable, "-m", DRIVER, str(os.getpid()), stdin=PIPE, stdout=PIPE, limit=LIMIT,
            env={**os.environ, **settings.OUTLIVE, **settings.QUIET},
        )  # fmt: skip
        told = {"address": self._address, "namespace": self._namespace, "needs": self._needs}
        await self._call("connect", told, CONNECT_S)
        try:
            self._warnings = tuple(settings.warnings(await self._call("settings", {}, CONNECT_S)))
        except PlacementFailed as error:
            self._warnings = (f"how Ray was started could not be checked: {error.message}",)
            await self._call("survey", {}, CALL_S)  # is there still a driver?

    async def _call(self, verb: str, given: dict[str, Any], within_s: float) -> Any:
        driver = self._driver
        assert driver is not None
        assert driver.stdin is not None
        assert driver.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                driver.stdin.write(json.dumps({"verb": verb, "given": given}).encode() + b"\n")
                await driver.stdin.drain()
                line = await driver.stdout.readline()
        except TimeoutError:
            await self._end()
            raise PlacementFailed(f"Ray did not answer within {within_s:g} s ({verb})") from None
        except (OSError, ValueError):
            line = b""
        except asyncio.CancelledError:
            await self._end()  # or its answer would be taken for the next one's
            raise
        if not line:
            await self._end()
            raise PlacementFailed(f"Ray has ended its driver ({verb}): its head may be gone")
        answer = json.loads(line)
        if "error" in answer:
            raise PlacementFailed(plain(answer["error"]))
        return answer["ok"]

    async def _end(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            with contextlib.suppress(ProcessLookupError):
                driver.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await driver.wait()

    async def _check_head(self) -> None:
        """Raises PlacementFailed if the head doesn't answer, or lets in whoever reaches its port."""
        if self._address != "auto":
            host, _, port = self._address.rpartition(":")
            try:
                async with asyncio.timeout(REACH_S):
                    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                writer.close()
            except (OSError, TimeoutError) as error:
                known = isinstance(error, OSError) and error.errno is not None and error.errno > 0
                why = os.strerror(error.errno or 0) if known else str(error) or f"no answer in {REACH_S:g} s"
                raise PlacementFailed(f"Ray's head cannot be reached at {self._address}: {why}") from None
        bare = {name: text for name, text in os.environ.items() if not name.startswith("RAY_AUTH")}
        probe = await asyncio.create_subprocess_exec(
            sys.executable, "-m", OPEN_PROBE, self._address, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL,
            env={**bare, "RAY_AUTH_MODE": "disabled", "HOME": "/nonexistent"},
        )  # fmt: skip
        try:
            async with asyncio.timeout(PROBE_S):
                said, _ = await probe.communicate()
        except TimeoutError:
            said = b""
        finally:
            with contextlib.suppress(ProcessLookupError):
                probe.kill()
        if said.strip() == b"open":
            raise PlacementFailed(
                f"Ray at {self._address} lets everybody in: start it with RAY_AUTH_MODE=token"
            )
        if said.strip() != b"closed":
            raise PlacementFailed(f"Ray's head does not answer at {self._address}")


def plain(text: str) -> str:
    """Ray's errors, in a line."""
    words = " ".join(text.split())
    if found := MISMATCH.search(words):
        return (
            f"Ray's head runs Ray {found[1]} with Python {found[2]}, and here are Ray {found[3]} and Python "
            f"{found[4]}: give all hosts of Ray and this one the same versions of both ({INSTALL})"
        )
    if "AuthenticationError" in words or "Unauthenticated" in words:
        return "Ray has another token: give all of its hosts and this process the same RAY_AUTH_TOKEN_PATH"
    return words[:500]
