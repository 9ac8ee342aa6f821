"""`psistream bench failover`: how long a viewer's picture stalls after `kill -9` of the worker, and, with
several workers, how far apart its frames are while the worker is drained."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

from benchmarks.machine import description
from benchmarks.report import BenchError, BenchReport
from benchmarks.server.probe import PATIENCE_S, ControlProbe, model_of
from benchmarks.server.subject import Subject
from clients.http import http_client
from clients.whep import WhepViewer

WORKER = "spawn_main"  # in the command line of a worker
SETTLE_S = 12.0  # until a spare is ready
AGAIN_S = 6.0  # until a worker that was killed runs again, where others stand in for it
MOVE_S = 3.0  # a drain and the video after it
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
    """When this process was started, in the kernel's ticks."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19])


async def measure(subject: Subject, kills: int, fleet: int = 1) -> BenchReport:
    """`fleet`: how many workers the server has. Raises BenchError, ViewError."""
    if subject.pid is None:
        raise BenchError("failover kills workers: it needs a server of its own, leave out --url")
    machine = description()
    stalls: list[float] = []
    lost: list[float] = []
    viewer = WhepViewer(subject.target)
    probe = ControlProbe(viewer)
    async with viewer:
        await viewer.ready(PATIENCE_S)
        for _ in range(kills):
            await asyncio.sleep(SETTLE_S if fleet == 1 else AGAIN_S)
            before = probe.segments[-1]["segment"] if probe.segments else 0
            probe.forget()
            victim = workers(subject.pid)[0]
            at_s = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            await asyncio.sleep(PLAY_S)
            if not probe.arrivals or probe.arrivals[-1] < at_s + 0.5:
                await asyncio.sleep(PATIENCE_S)
            around = [t for t in probe.arrivals if t > at_s]
            gaps = [b - a for a, b in pairwise([at_s, *around])]
            if not gaps:
                raise BenchError(f"no picture came back within {PLAY_S + PATIENCE_S:g} s")
            stalls.append(1000 * max(gaps))
            shown = [s["segment"] for s in probe.segments if s["segment"] >= before]
            lost.append(shown[0] - before if shown else 0)
        figures = {"picture stalls after kill -9": stalls}
        if fleet > 1:
            await asyncio.sleep(AGAIN_S)
            moved, still = await _moves(subject, probe, kills)
            figures |= {"longest gap while drained": moved, "the same, with nothing happening": still}
        model = await model_of(subject)
    settings = {"kills": kills, "workers": fleet, "model": model["name"], "backend": model["backend"]}
    report = BenchReport("failover", machine, settings, figures)
    report.singles["segments counted from the kill to the next, at most"] = (max(lost), "segments")
    return report


async def _moves(subject: Subject, probe: ControlProbe, count: int) -> tuple[list[float], list[float]]:
    """The longest gap between two frames, in ms: while the session moves, and for as long without a move."""
    moved: list[float] = []
    still: list[float] = []
    async with http_client(subject.target.base, PATIENCE_S) as client:
        for _ in range(count):
            listed = (await client.get("v1/workers")).raise_for_status().json()["workers"]
            where = next(worker["id"] for worker in listed if worker["sessions"])
            still.append(await _longest_gap(probe))
            (await client.post(f"v1/workers/{where}/drain")).raise_for_status()
            moved.append(await _longest_gap(probe))
            listed = (await client.get("v1/workers")).raise_for_status().json()["workers"]
            if any(worker["id"] == where and worker["sessions"] for worker in listed):
                raise BenchError(f"the session did not leave {where} within {MOVE_S:g} s")
            (await client.delete(f"v1/workers/{where}/drain")).raise_for_status()
    return moved, still


async def _longest_gap(probe: ControlProbe) -> float:
    at_s = time.perf_counter()
    await asyncio.sleep(MOVE_S)
    arrivals = [at for at in probe.arrivals if at > at_s]
    if len(arrivals) < 2:
        raise BenchError(f"no picture came within {MOVE_S:g} s")
    return 1000 * max(b - a for a, b in pairwise(arrivals))
