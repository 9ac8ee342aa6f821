"""`psistream bench failover`: how long a viewer's picture stalls after `kill -9` of the worker, and, with
several workers, the longest gap between frames while a worker is drained."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.machine import description
from benchmarks.report import BenchError, BenchReport
from benchmarks.server.probe import PATIENCE_S, ControlProbe, model_of
from benchmarks.server.subject import Subject
from clients.http import http_client
from clients.target import Target
from clients.whep import WhepViewer

WORKER = "spawn_main"  # in the command line of a worker
SETTLE_S = 12.0  # until a spare is ready
HEALTHY_S = 31.0  # if workers die faster than this, their session is suspected, and closed at the third
SESSIONS = 4  # with several workers, each with a viewer
MOVE_S = 4.0  # a drain and the video after it
PLAY_S = 4.0


def workers(pid: int) -> list[int]:
    """The server's child processes that run a model, the oldest first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    threads = (p for p in Path(f"/proc/{pid}/task").iterdir() if p.name != str(pid))
    for thread in threads:
        children += (thread / "children").read_text(encoding="utf-8").split()
    found = [int(c) for c in children if WORKER in Path(f"/proc/{c}/cmdline").read_text(encoding="utf-8")]
    return sorted(found, key=_started)


def _started(pid: int) -> int:
    """The start time of a process, in the kernel's ticks."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19])


async def measure(subject: Subject, kills: int, fleet: int = 1) -> BenchReport:
    """`fleet` is the server's number of workers. Raises BenchError, ViewError."""
    if subject.pid is None:
        raise BenchError("failover kills workers, so it starts its own server: leave out --url")
    machine = description()
    stalls: list[float] = []
    lost: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        viewers = [WhepViewer(target) for target in await _targets(subject, 1 if fleet == 1 else SESSIONS)]
        probes = [ControlProbe(viewer) for viewer in viewers]
        for viewer in viewers:
            await stack.enter_async_context(viewer)
            await viewer.ready(PATIENCE_S)
        for number in range(kills):
            await asyncio.sleep(HEALTHY_S if number > 1 else SETTLE_S)
            before = [p.segments[-1]["segment"] if p.segments else 0 for p in probes]
            for probe in probes:
                probe.forget()
            victim = workers(subject.pid)[0]
            at_s = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            await asyncio.sleep(PLAY_S)
            if any(not p.arrivals or p.arrivals[-1] < at_s + 0.5 for p in probes):
                await asyncio.sleep(PATIENCE_S)
            for probe, segment in zip(probes, before, strict=True):
                around = [t for t in probe.arrivals if t > at_s]
                gaps = [b - a for a, b in pairwise([at_s, *around])]
                if not gaps:
                    raise BenchError(f"the picture did not return within {PLAY_S + PATIENCE_S:g} s")
                shown = [s["segment"] for s in probe.segments if s["segment"] >= segment]
                if number == 0 and fleet > 1 and probe is not probes[0]:
                    continue  # before the first kill, the sessions were spread over the workers
                stalls.append(1000 * max(gaps))
                lost.append(shown[0] - segment if shown else 0)
        figures: dict[str, Sequence[float]] = {"picture stalls after kill -9": stalls}
        if fleet > 1:
            await asyncio.sleep(SETTLE_S)
            moved, still = await _moves(subject, probes, kills)
            figures |= {"longest gap while drained": moved, "the same, with nothing happening": still}
        model = await model_of(subject)
    settings = {"kills": kills, "workers": fleet, "model": model["name"], "backend": model["backend"]}
    report = BenchReport("failover", machine, settings, figures)
    report.singles["segments counted from the kill to the next, at most"] = (max(lost), "segments")
    return report


async def _targets(subject: Subject, count: int) -> list[Target]:
    """The shared session and `count` − 1 others."""
    async with http_client(subject.target.base, PATIENCE_S) as client:
        opened = [
            (await client.post("v1/sessions", json={"prompt": "a dog"})).raise_for_status().json()
            for _ in range(count - 1)
        ]
    return [subject.target, *(Target(subject.target.base, each["id"], each["token"]) for each in opened)]


async def _moves(subject: Subject, probes: list[ControlProbe], count: int) -> tuple[list[float], list[float]]:
    """The longest gaps between two frames in ms: during moves, and without a move for the same time."""
    moved: list[float] = []
    still: list[float] = []
    async with http_client(subject.target.base, PATIENCE_S) as client:

        async def request(method: str, path: str = "") -> dict[str, Any]:
            answer = (await client.request(method, f"v1/workers{path}")).raise_for_status()
            body: dict[str, Any] = answer.json()
            return body

        for _ in range(count):
            where = max((await request("GET"))["workers"], key=lambda worker: worker["sessions"])["id"]
            still += await _longest_gaps(probes)
            await request("POST", f"/{where}/drain")
            moved += await _longest_gaps(probes)
            if any(w["id"] == where and w["sessions"] for w in (await request("GET"))["workers"]):
                raise BenchError(f"not all sessions left {where} within {MOVE_S:g} s")
            await request("DELETE", f"/{where}/drain")
    return moved, still


async def _longest_gaps(probes: list[ControlProbe]) -> list[float]:
    at_s = time.perf_counter()
    await asyncio.sleep(MOVE_S)
    found: list[float] = []
    for probe in probes:
        arrivals = [at for at in probe.arrivals if at > at_s]
        found.append(1000 * max(b - a for a, b in pairwise([at_s, *arrivals, at_s + MOVE_S])))
    return found
