"""`psistream bench failover`: how long a viewer's picture stalls after `kill -9` of the worker."""

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
from clients.whep import WhepViewer

WORKER = "spawn_main"  # in the command line of a worker
SETTLE_S = 12.0  # until a spare is ready
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


async def measure(subject: Subject, kills: int) -> BenchReport:
    """Raises BenchError, ViewError."""
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
            await asyncio.sleep(SETTLE_S)
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
        model = await model_of(subject)
    settings = {"kills": kills, "model": model["name"], "backend": model["backend"]}
    report = BenchReport("failover", machine, settings, {"picture stalls after kill -9": stalls})
    report.singles["segments counted from the kill to the next, at most"] = (max(lost), "segments")
    return report
