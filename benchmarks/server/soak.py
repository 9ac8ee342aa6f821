"""`psistream bench soak`: does anything grow or slow down while a session is watched for a long time?

One viewer sends a prompt now and then. The report compares the first tenth with the last, and fits slopes of
segment time and of the server's memory, open files and threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.machine import cpu_seconds, description, open_files, resident_bytes, thread_count
from benchmarks.plot import curves
from benchmarks.report import BenchReport, percentile
from benchmarks.server.probe import PATIENCE_S, PROMPTS, ControlProbe, model_of, total_ms
from benchmarks.server.subject import Subject
from benchmarks.slopes import WARM_UP, table
from clients.errors import ViewError
from clients.whep import WhepViewer

PROMPT_EVERY_S = 20.0
MEMORY_EVERY_S = 2.0
SHORT_MINUTES = 10.0  # memory has not settled in a shorter run


async def soak(subject: Subject, minutes: float, warm_up_s: float, plot: Path | None = None) -> BenchReport:
    """Raises BenchError, ViewError."""
    machine = description()
    viewer = WhepViewer(subject.target)
    probe = ControlProbe(viewer)
    memory: list[float] = []
    at_s: list[float] = []
    files: list[int] = []
    threads: list[int] = []
    async with viewer:
        await viewer.ready(PATIENCE_S)
        await asyncio.sleep(warm_up_s)
        probe.forget()
        begun_s = time.perf_counter()
        cpu_s = cpu_seconds(subject.pid) if subject.pid else None
        prompted = 0
        while (passed_s := time.perf_counter() - begun_s) < 60 * minutes:
            if viewer.ended.is_set():
                raise ViewError(viewer.end_reason)
            if passed_s >= PROMPT_EVERY_S * prompted:
                text, how = PROMPTS[prompted % len(PROMPTS)], ("recondition", "cut")[prompted // 2 % 2]
                viewer.send({"type": "prompt", "text": text, "how": how})
                prompted += 1
            if subject.pid and (size := resident_bytes(subject.pid)):
                memory.append(size / 2**20)
                at_s.append(passed_s)
                files.append(open_files(subject.pid))
                threads.append(thread_count(subject.pid))
            await asyncio.sleep(min(MEMORY_EVERY_S, 60 * minutes))
        used_s = None if cpu_s is None or subject.pid is None else (cpu_seconds(subject.pid) or 0) - cpu_s
        model = await model_of(subject)

    settings = {"minutes": minutes, "model": model["name"], "backend": model["backend"], "prompts": prompted}
    report = BenchReport("soak", machine, settings)
    made = [total_ms(s) for s in probe.segments]
    tenth = max(1, len(made) // 10)
    report.series = {"segment, first tenth": made[:tenth], "segment, last tenth": made[-tenth:]}
    playback_ms = 1000 * model["frames_per_segment"] / model["fps"]
    one = report.singles
    one["segment, to play"] = (round(playback_ms, 1), "ms")
    if made and (middle := percentile(made, 0.5)):
        one["generation speed over playback"] = (round(playback_ms / middle, 2), "×")
    if len(probe.arrivals) > 1:
        span_s = probe.arrivals[-1] - probe.arrivals[0]
        one["frames received"] = (round((len(probe.arrivals) - 1) / span_s, 2), "per second")
        gap_ms = 1000 * max(b - a for a, b in pairwise(probe.arrivals))
        one["longest gap between frames"] = (round(gap_ms, 1), "ms")
    if probe.segments:
        first, last = probe.segments[0], probe.segments[-1]
        one["state at the start"] = (first["state_bytes"], "bytes")
        one["state at the end"] = (last["state_bytes"], "bytes")
        one["segments late"] = (last["late_total"] - first["late_total"], f"of {len(made)}")
        dropped = last["dropped_frames_total"] - first["dropped_frames_total"]
        one["frames dropped by the server"] = (dropped, f"of {model['frames_per_segment'] * len(made)}")
    if memory:
        some = max(1, len(memory) // 10)
        one["resident memory at the start"] = (round(percentile(memory[:some], 0.5), 1), "MiB")
        one["resident memory at the end"] = (round(percentile(memory[-some:], 0.5), 1), "MiB")
        of_server: dict[str, Sequence[float]] = {
            "resident memory, MiB": memory,
            "open files": files,
            "threads": threads,
        }
        played = [s / 1000 * playback_ms for s in range(len(made))]
        report.tables["slopes, with 95 % confidence"] = [
            *table(at_s, of_server, per=3600, unit="s"),
            *table(played, {"time of a segment, ms": made}, per=3600, unit="s"),
        ]
        report.notes.append(WARM_UP)
        if minutes < SHORT_MINUTES:
            report.notes.append(
                f"{minutes:g} minutes are too few to distinguish growth from warm-up; use at least "
                f"{SHORT_MINUTES:g}."
            )
        if plot is not None:
            curves(plot, at_s, of_server, "seconds")
    if used_s is not None:
        one["processor of the server"] = (round(100 * used_s / (60 * minutes), 1), "% of one core")
    return report
