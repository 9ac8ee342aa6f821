"""`psistream bench hostile`: how hostile clients affect a viewer, one kind at a time.

The victim and each attacker have separate sessions, and attackers run in separate processes. Frame intervals
are those of decoded frames; `/livez` is requested ten times a second. The table has each attacker's share of
the processor, since a row means nothing if the attacker hardly ran.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.machine import cpu_seconds, description, resident_bytes
from benchmarks.report import BenchError, BenchReport, percentile
from benchmarks.server.attackers import ATTACKS
from benchmarks.server.probe import PATIENCE_S, ControlProbe, model_of
from benchmarks.server.subject import Subject
from clients.target import Target
from clients.whep import WhepViewer

LIVEZ_EVERY_S = 0.1
WARM_S = 2.0  # of an attack, before it is measured
REST_S = 3.0  # between two attackers
LOST_MS = 10_000.0  # counted for a request without an answer
GOAL_RATIO, GOAL_GAP_MS, GOAL_LIVEZ_MS = 1.3, 250.0, 50.0


async def measure(subject: Subject, seconds: float, only: list[str], cores: str = "") -> BenchReport:
    """Measure the viewer without attackers and beside each one. Raises BenchError, ViewError."""
    machine = description()
    base = subject.target.base
    rows: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=base, timeout=15.0) as http:
        mine, theirs = await _open(http), await _open(http)
        memory = resident_bytes(subject.pid) if subject.pid else None
        viewer = WhepViewer(Target(base, mine["id"], mine["token"]))
        probe = ControlProbe(viewer)
        async with viewer:
            await viewer.ready(PATIENCE_S)
            await asyncio.sleep(REST_S)
            quiet = await _measured(probe, None, theirs, base, seconds, cores)
            rows.append({"beside it": "nobody", **quiet, **_memory(subject)})
            for name in only or ATTACKS:
                await asyncio.sleep(REST_S)
                row = await _measured(probe, name, theirs, base, seconds, cores)
                rows.append({"beside it": name, **row, **_memory(subject)})
            await asyncio.sleep(REST_S)
            model = await model_of(subject)
        for session in (mine, theirs):
            with contextlib.suppress(httpx.HTTPError):
                path = f"v1/sessions/{session['id']}"
                await http.delete(path, headers={"Authorization": f"Bearer {session['token']}"})
    settings = {"seconds each": seconds, "model": model["name"], "backend": model["backend"]}
    settings["attackers"] = f"on cores {cores}" if cores else "get only idle processor time"
    report = BenchReport("hostile", machine, settings)
    report.tables["a viewer beside attackers, milliseconds"] = rows
    after = resident_bytes(subject.pid) if subject.pid else None
    if memory is not None and after is not None:
        report.singles["memory of all its processes, before"] = (round(memory / 2**20, 1), "MiB")
        report.singles["memory of all its processes, after"] = (round(after / 2**20, 1), "MiB")
    report.notes = shortfalls(rows)
    return report


def _memory(subject: Subject) -> dict[str, float]:
    size = resident_bytes(subject.pid) if subject.pid else None
    return {} if size is None else {"server, MiB": round(size / 2**20, 1)}


def shortfalls(rows: list[dict[str, Any]]) -> list[str]:
    """The goals that were missed, by attacker."""
    quiet = rows[0]["frame p99"]
    notes = []
    for row in rows[1:]:
        misses = []
        if row["frame p99"] > GOAL_RATIO * quiet:
            misses.append(f"frame p99 {row['frame p99'] / quiet:.1f}× that without attackers")
        if row["longest gap"] > GOAL_GAP_MS:
            misses.append(f"a gap of {row['longest gap']:.0f} ms")
        if row["livez p99"] > GOAL_LIVEZ_MS:
            misses.append(f"/livez p99 {row['livez p99']:.0f} ms")
        if misses:
            notes.append(f"{row['beside it']}: {', '.join(misses)}")
    return notes or ["every goal was met"]


async def _measured(
    probe: ControlProbe,
    attack: str | None,
    session: dict[str, Any],
    base: str,
    seconds: float,
    cores: str,
) -> dict[str, float]:
    attacker, used_s = None, 0.0
    if attack is not None:
        command = (
            sys.executable,
            "-m",
            "benchmarks.server.attackers",
            attack,
            base,
            json.dumps(session),
            str(2 * (WARM_S + seconds)),
            cores,
        )
        attacker = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert attacker.stdout is not None
        await attacker.stdout.readline()
        await asyncio.sleep(WARM_S)
        used_s = -(cpu_seconds(attacker.pid) or 0.0)
    probe.forget()
    answers: list[float] = []
    until_s = time.perf_counter() + seconds
    while (began_s := time.perf_counter()) < until_s:
        answers.append(1000 * (time.perf_counter() - began_s) if await _alive(base) else LOST_MS)
        await asyncio.sleep(max(0.0, began_s + LIVEZ_EVERY_S - time.perf_counter()))
    arrivals = list(probe.arrivals)
    if attacker is not None:
        used_s += cpu_seconds(attacker.pid) or 0.0
        with contextlib.suppress(ProcessLookupError):
            attacker.kill()
        await attacker.wait()
    gaps = [1000 * (b - a) for a, b in pairwise(arrivals)]
    if not gaps:
        raise BenchError(f"the victim saw no picture beside {attack or 'nobody'}: {probe.viewer.end_reason}")
    return {
        "frame p50": round(percentile(gaps, 0.5), 1),
        "frame p99": round(percentile(gaps, 0.99), 1),
        "longest gap": round(max(gaps), 1),
        "livez p50": round(percentile(answers, 0.5), 1),
        "livez p99": round(percentile(answers, 0.99), 1),
        "attacker, % of a core": round(100 * max(0.0, used_s) / seconds, 1),
    }


async def _alive(base: str) -> bool:
    """Whether /livez answers on a new connection."""
    parts = urlsplit(base)
    try:
        async with asyncio.timeout(LOST_MS / 1000):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return answer.startswith(b"HTTP/1.1 200")


async def _open(http: httpx.AsyncClient) -> dict[str, Any]:
    answer = await http.post("v1/sessions", json={"prompt": "a red fox walks right through a forest"})
    if answer.status_code != 201:
        raise BenchError(f"no session could be opened: {answer.json().get('message', answer.status_code)}")
    opened: dict[str, Any] = answer.json()
    return opened
