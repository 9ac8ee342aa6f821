"""`psistream bench soak --segments N`: the engine alone, as fast as it goes, for thousands of segments.

A few long sessions with prompts now and then, and many short ones that come and go beside them. Looked at:
what a segment takes, resident memory, open files, threads; time stamps and numbering; sessions that failed.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import description
from benchmarks.report import BenchError, Report
from benchmarks.slopes import Slope, slope
from engine.backends.base import Backend
from engine.config import RuntimeConfig
from engine.runtime.engine import Engine
from engine.types import Control, OpenSession, Prompt, RuntimeEvent, SegmentReady, SessionClosed

PROMPTS = (
    "a red fox walks right through a forest",
    "a blue robot in a snowy city at night",
    "a green desert",
)
PROMPT_EVERY = 40  # segments of a long session
SHORT_SEGMENTS = 3  # of a short one
SAMPLES = 400  # of memory and the like, over the whole run


@dataclass
class Samples:
    """One list entry per moment; `at` counts segments."""

    at: list[int] = field(default_factory=list)
    segment_ms: list[float] = field(default_factory=list)  # of the device's time, since the moment before
    resident_mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)


class Endurance:
    """Sessions on one engine whose clock jumps: nobody waits for playback."""

    def __init__(self, backend: Backend, long: int, segments: int) -> None:
        self.samples = Samples()
        self.made = self.opened = self.disorders = 0
        self.failed: list[SessionClosed] = []
        self._backend, self._segments, self._long = backend, segments, long
        self._now_s = 0.0
        self._last: dict[str, tuple[int, int, float]] = {}  # segment, epoch, due_s
        self._engine = Engine(
            backend, RuntimeConfig(max_sessions=long + 4, max_load=1e6), self._hear, lambda: self._now_s
        )

    def run(self) -> None:
        """Raises BenchError where every session is gone."""
        every = max(1, self._segments // SAMPLES)
        try:
            for n in range(self._long):
                self._open(f"long{n}")
            begun_s, counted = time.perf_counter(), 0
            while self.made < self._segments:
                self._keep_a_short_one()
                wake_s = self._engine.step()
                if wake_s is None:
                    raise BenchError(
                        "every session ended: " + (self.failed[-1].message if self.failed else "")
                    )
                self._now_s = max(self._now_s, wake_s)
                if self.made - counted >= every:
                    now_s = time.perf_counter()
                    self._sample(1000 * (now_s - begun_s) / (self.made - counted))
                    begun_s, counted = now_s, self.made
        finally:
            self._engine.close()

    def _open(self, name: str) -> None:
        self._engine.open(OpenSession(name, PROMPTS[self.opened % len(PROMPTS)], self.opened))
        self._engine.set_watched(name, True)
        self.opened += 1

    def _keep_a_short_one(self) -> None:
        short = next((name for name in self._last if name.startswith("short")), None)
        if short is not None and self._last[short][0] >= SHORT_SEGMENTS - 1:
            self._engine.close_session(short)
            del self._last[short]
            short = None
        if short is None:
            name = f"short{self.opened}"
            self._last[name] = (-1, 0, 0.0)
            self._open(name)

    def _hear(self, event: RuntimeEvent) -> None:
        if isinstance(event, SessionClosed) and event.code != "closed":
            self.failed.append(event)
        if not isinstance(event, SegmentReady):
            return
        self.made += 1
        name, before = event.session, self._last.get(event.session, (-1, 0, 0.0))
        if event.segment != before[0] + 1 or event.epoch < before[1] or event.due_s <= before[2]:
            self.disorders += 1
        self._last[name] = (event.segment, event.epoch, event.due_s)
        if name.startswith("long") and event.segment % PROMPT_EVERY == PROMPT_EVERY - 1:
            number = event.segment // PROMPT_EVERY
            how = "cut" if number % 3 == 2 else "recondition"
            body = Prompt(PROMPTS[number % len(PROMPTS)], how=how)
            self._engine.submit(name, Control(f"{name}-{number}", body))

    def _sample(self, segment_ms: float) -> None:
        s = self.samples
        s.at.append(self.made)
        s.segment_ms.append(segment_ms)
        s.resident_mib.append(_resident_mib())
        s.files.append(_open_files())
        s.threads.append(threading.active_count())


def endure(backend: Backend, segments: int, sessions: int) -> tuple[Report, Samples]:
    """Raises BenchError."""
    machine, begun_s = description(), time.perf_counter()
    run = Endurance(backend, sessions, segments)
    run.run()
    spec = backend.spec
    settings = {"model": spec.name, "backend": backend.name, "segments": run.made, "sessions": run.opened}
    report = Report("soak", machine, settings)
    report.series = {"segment": run.samples.segment_ms}
    report.tables["slopes, with 95 % confidence"] = slopes(run.samples)
    one = report.singles
    one["video made"] = (round(run.made * spec.segment_s / 3600, 2), "hours")
    one["in"] = (round((time.perf_counter() - begun_s) / 3600, 2), "hours")
    one["sessions that failed"] = (len(run.failed), f"of {run.opened}")
    one["segments out of order or time"] = (run.disorders, f"of {run.made}")
    report.notes.append("The first tenth counts for no slope: caches fill, and the allocator finds its size.")
    return report, run.samples


def slopes(samples: Samples) -> list[dict[str, object]]:
    """One row per figure: its change in a thousand segments."""
    skip = len(samples.at) // 10
    figures = {
        "time of a segment, ms": samples.segment_ms,
        "resident memory, MiB": samples.resident_mib,
        "open files": samples.files,
        "threads": samples.threads,
    }
    rows: list[dict[str, object]] = []
    for name, values in figures.items():
        line = slope(samples.at[skip:], values[skip:])
        rows.append({"figure": name, "at the end": round(values[-1], 3) if values else None, **_cells(line)})
    return rows


def _cells(line: Slope | None) -> dict[str, object]:
    each = (None, None, None) if line is None else tuple(round(1000 * v, 4) for v in line)
    return dict(zip(("per 1000 segments", "from", "to"), each, strict=True))


def _resident_mib() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
