"""`psistream bench soak --segments N`: the engine alone at full speed, for thousands of segments.

A few long sessions get a new prompt now and then; many short sessions come and go beside them. It watches
segment time, resident memory, open files, threads, time stamps, numbering and failed sessions.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.machine import description, open_files, resident_bytes, thread_count
from benchmarks.report import BenchError, BenchReport, duration
from benchmarks.slopes import WARM_UP, table
from engine.backends.base import Backend
from engine.config import RuntimeConfig
from engine.runtime.device.engine import Engine
from engine.types import Control, How, OpenSession, Prompt, RuntimeEvent, SegmentReady, SessionClosed

PROMPTS = (
    "a red fox walks right through a forest",
    "a blue robot in a snowy city at night",
    "a green desert",
)
PROMPT_EVERY = 40  # segments of a long session
SHORT_SEGMENTS = 3  # of a short one
FEW = 2000  # segments; memory has not settled with fewer
SAMPLES = 400  # samples of memory, files and threads over the whole run


@dataclass
class Samples:
    """One list entry per sample; `at` counts segments."""

    at: list[int] = field(default_factory=list)
    segment_ms: list[float] = field(default_factory=list)  # per segment since the previous sample
    processor_ms: list[float] = field(default_factory=list)  # the same, in processor time of this process
    resident_mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def series(self) -> dict[str, Sequence[float]]:
        return {
            "time of a segment, ms": self.segment_ms,
            "processor time of a segment, ms": self.processor_ms,
            "resident memory, MiB": self.resident_mib,
            "open files": self.files,
            "threads": self.threads,
        }


class Endurance:
    """Sessions on one engine whose clock jumps, so playback takes no time."""

    def __init__(self, backend: Backend, long: int, segments: int) -> None:
        self.samples = Samples()
        self.made = self.opened = self.disorders = 0
        self.failed: list[SessionClosed] = []
        self._backend, self._segments, self._long = backend, segments, long
        self._now_s = 0.0
        self._last: dict[str, tuple[int, int, float]] = {}  # segment, epoch, due_s
        self.engine = Engine(
            backend, RuntimeConfig(max_sessions=long + 4, max_load=1e6), self._receive, lambda: self._now_s
        )

    def run(self) -> None:
        """Run until enough segments are made. Raises BenchError if every session has ended."""
        every = max(1, self._segments // SAMPLES)
        try:
            for n in range(self._long):
                self._open(f"long{n}")
            begun_s, spent_s, counted = time.perf_counter(), time.process_time(), 0
            while self.made < self._segments:
                self._keep_a_short_one()
                wake_s = self.engine.step()
                if wake_s is None:
                    raise BenchError(
                        "every session ended: " + (self.failed[-1].message if self.failed else "")
                    )
                self._now_s = max(self._now_s, wake_s)
                if self.made - counted >= every:
                    some, now_s, by_now_s = self.made - counted, time.perf_counter(), time.process_time()
                    self._sample(1000 * (now_s - begun_s) / some, 1000 * (by_now_s - spent_s) / some)
                    begun_s, spent_s, counted = now_s, by_now_s, self.made
        finally:
            self.engine.close()

    def _open(self, name: str) -> None:
        self.engine.open(OpenSession(name, PROMPTS[self.opened % len(PROMPTS)], self.opened))
        self.engine.set_watched(name, True)
        self.opened += 1

    def _keep_a_short_one(self) -> None:
        short = next((name for name in self._last if name.startswith("short")), None)
        if short is not None and self._last[short][0] >= SHORT_SEGMENTS - 1:
            self.engine.close_session(short)
            del self._last[short]
            short = None
        if short is None:
            name = f"short{self.opened}"
            self._last[name] = (-1, 0, 0.0)
            self._open(name)

    def _receive(self, event: RuntimeEvent) -> None:
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
            how: How = "cut" if number % 3 == 2 else "recondition"
            body = Prompt(PROMPTS[number % len(PROMPTS)], how=how)
            self.engine.submit(name, Control(f"{name}-{number}", body))

    def _sample(self, segment_ms: float, processor_ms: float) -> None:
        s = self.samples
        s.at.append(self.made)
        s.segment_ms.append(segment_ms)
        s.processor_ms.append(processor_ms)
        s.resident_mib.append((resident_bytes(os.getpid()) or 0) / 2**20)
        s.files.append(open_files(os.getpid()))
        s.threads.append(thread_count(os.getpid()))


def endure(backend: Backend, segments: int, sessions: int, *, few: int = FEW) -> tuple[BenchReport, Samples]:
    """Run the soak. A run of fewer than `few` segments gets a note. Raises BenchError."""
    machine, begun_s = description(), time.perf_counter()
    run = Endurance(backend, sessions, segments)
    run.run()
    spec = backend.spec
    settings = {"model": spec.name, "backend": backend.name, "segments": run.made, "sessions": run.opened}
    report = BenchReport("soak", machine, settings)
    report.series = {"segment": run.samples.segment_ms}
    report.tables["slopes, with 95 % confidence"] = table(run.samples.at, run.samples.series())
    one = report.singles
    one["video made"] = duration(run.made * spec.segment_s)
    one["in"] = duration(time.perf_counter() - begun_s)
    one["sessions that failed"] = (len(run.failed), f"of {run.opened}")
    one["segments out of order or time"] = (run.disorders, f"of {run.made}")
    report.notes.append(WARM_UP)
    if run.made < few:
        report.notes.append(
            f"{run.made} segments are too few to distinguish growth from warm-up; use at least {few}."
        )
    return report, run.samples
