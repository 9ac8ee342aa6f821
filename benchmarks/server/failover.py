"""`psistream bench failover`: how long a viewer's picture stalls after `kill -9` of the worker, and, with
several workers, the longest gap between frames while a worker is drained."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import children, description
from benchmarks.report import BenchError, BenchReport, progress
from benchmarks.server.probe import PATIENCE_S, model_of
from benchmarks.server.reader import Reader
from benchmarks.server.subject import Subject
from clients.http import http_client
from clients.target import Target

WORKER = "spawn_main"  # in the command line of a worker
SETTLE_S = 12.0  # until a spare is ready
HEALTHY_S = 31.0  # if workers die faster than this, their session is suspected, and closed at the third
SESSIONS = 4  # with several workers, each with a viewer
MOVE_S = 4.0  # a drain and the video after it
PLAY_S = 4.0


def workers(pid: int) -> list[int]:
    """The server's child processes that run a model, the oldest first."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):  # it has just ended
            if WORKER in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8"):
                found.append((_started(child), child))
    return [child for _, child in sorted(found)]


def _started(pid: int) -> int:
    """The start time of a process, in the kernel's ticks. Raises OSError if it has ended."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19])


async def measure(subject: Subject, kills: int, fleet: int = 1) -> BenchReport:
    """`fleet` is the server's number of workers. Raises BenchError, ViewError."""
    if subject.pid is None:
        raise BenchError("failover kills workers, so it starts its own server: leave out --url")
    machine = description()
    stalls: list[float] = []
    lost: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        readers = [Reader(target) for target in await _targets(subject, 1 if fleet == 1 else SESSIONS)]
        for reader in readers:
            await stack.enter_async_context(reader)
            await reader.ready(PATIENCE_S)
        for number in range(kills):
            await asyncio.sleep(HEALTHY_S if number > 1 else SETTLE_S)
            victim = workers(subject.pid)[0]
            at_s = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            await asyncio.sleep(PLAY_S)
            if any(reader.seen.frames[-1][0] < at_s + 0.5 for reader in readers):
                await asyncio.sleep(PATIENCE_S)
            for reader in readers:
                if reader.ended.is_set():
                    raise BenchError(reader.end_reason)
                last_s = reader.seen.frames[-1][0]
                if last_s < at_s:
                    raise BenchError(f"the picture did not return within {PLAY_S + PATIENCE_S:g} s")
                if number == 0 and fleet > 1 and reader is not readers[0]:
                    continue  # before the first kill, the sessions were spread over the workers
                stalls.append(1000 * reader.seen.longest_gap_s(at_s, last_s))
                before = [m["segment"] for at, m in reader.seen.segments if at < at_s]
                after = [m["segment"] for at, m in reader.seen.segments if at >= at_s]
                lost.append(max(0, after[0] - before[-1]) if before and after else 0)
            progress(f"kill {number + 1} of {kills}: {stalls[-1]:.0f} ms")
        figures: dict[str, Sequence[float]] = {"picture stalls after kill -9": stalls}
        if fleet > 1:
            await asyncio.sleep(SETTLE_S)
            moved, still = await _moves(subject, readers, kills)
            figures |= {"longest gap while drained": moved, "the same, with nothing happening": still}
        model = await model_of(subject)
    settings = {"kills": kills, "workers": fleet, "model": model["name"], "backend": model["backend"]}
    report = BenchReport("failover", machine, settings, figures)
    seen = [reader.seen for reader in readers]
    report.singles["frames shown twice"] = (sum(each.repeated(0.0, math.inf) for each in seen), "frames")
    report.singles["times that went back"] = (sum(each.backwards(0.0, math.inf) for each in seen), "frames")
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


async def _moves(subject: Subject, readers: list[Reader], count: int) -> tuple[list[float], list[float]]:
    """The longest gaps between two frames in ms: during moves, and without a move for the same time."""
    moved: list[float] = []
    still: list[float] = []
    async with http_client(subject.target.base, PATIENCE_S) as client:

        async def request(method: str, path: str = "") -> dict[str, Any]:
            answer = (await client.request(method, f"v1/workers{path}")).raise_for_status()
            body: dict[str, Any] = answer.json()
            return body

        for number in range(count):
            where = max((await request("GET"))["workers"], key=lambda worker: worker["sessions"])["id"]
            still += await _longest_gaps(readers)
            await request("POST", f"/{where}/drain")
            moved += await _longest_gaps(readers)
            if any(w["id"] == where and w["sessions"] for w in (await request("GET"))["workers"]):
                raise BenchError(f"not all sessions left {where} within {MOVE_S:g} s")
            await request("DELETE", f"/{where}/drain")
            progress(f"drain {number + 1} of {count}: {moved[-1]:.0f} ms")
    return moved, still


async def _longest_gaps(readers: list[Reader]) -> list[float]:
    at_s = time.perf_counter()
    await asyncio.sleep(MOVE_S)
    return [1000 * reader.seen.longest_gap_s(at_s, at_s + MOVE_S) for reader in readers]
