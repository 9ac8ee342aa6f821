"""`psistream bench load`: how many sessions a device serves in real time, with and without batching.

The engine runs on its own thread in real time; all sessions are watched, nothing is encoded. The number of
sessions grows until deadlines break. The processor time of the runtime itself is measured too.

A pretended device has a pretended clock, so it measures the schedule alone and gives the same result on any
machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.engine.blank import BlankBackend
from benchmarks.machine import description
from benchmarks.report import BenchReport, percentile
from engine.backends.base import Arrays, Backend, Noise, Sampler
from engine.config import RuntimeConfig
from engine.model.signature import ModelSpec
from engine.runtime.device.engine import Engine
from engine.types import OpenSession, RuntimeEvent, SegmentReady, SessionClosed

PROMPT = "a red fox walks right through a forest"
SETTLE_SEGMENTS = 6  # segments of each session that are not counted
BROKEN = 0.02  # share of late or slow segments above which deadlines count as broken
OWN_SEGMENTS = 400
CLOSER = 3  # extra runs that narrow down the knee between two counts


class Listener:
    """Collects the figures of segments without their pictures. Called on the device thread."""

    def __init__(self) -> None:
        self.made: list[SegmentReady] = []
        self.closed: list[SessionClosed] = []
        self._lock = threading.Lock()

    def __call__(self, event: RuntimeEvent) -> None:
        if isinstance(event, SegmentReady):
            with self._lock:
                self.made.append(replace(event, frames=event.frames[:0]))
        elif isinstance(event, SessionClosed):
            self.closed.append(event)

    def take(self) -> list[SegmentReady]:
        with self._lock:
            made, self.made = self.made, []
        return made


class RealTime:
    """The engine on its own thread."""

    def __init__(self, backend: Backend, config: RuntimeConfig, listener: Listener) -> None:
        self.now_s = time.monotonic
        self.engine = Engine(backend, config, listener)
        self.engine.start()

    def run(self, seconds: float) -> None:
        time.sleep(seconds)


class PretendedTime:
    """The engine, turn by turn, on a clock that a pretended device advances."""

    def __init__(self, backend: BlankBackend, config: RuntimeConfig, listener: Listener) -> None:
        self._now_s = 0.0
        backend.sleep_by(self._pass)
        self.engine = Engine(backend, config, listener, self.now_s)

    def now_s(self) -> float:
        return self._now_s

    def run(self, seconds: float) -> None:
        until_s = self._now_s + seconds
        while (wake_s := self.engine.step()) is not None and wake_s <= until_s:
            self._now_s = max(self._now_s, wake_s)
        self._now_s = max(self._now_s, until_s)

    def _pass(self, seconds: float) -> None:
        self._now_s += seconds


def play(backend: Backend, sessions: int, max_batch: int, seconds: float) -> dict[str, Any]:
    """One row of the table: sessions that start evenly spread over the time of a segment."""
    listener, segment_s = Listener(), backend.spec.segment_s
    config = RuntimeConfig(max_sessions=max(sessions, 1), max_batch=max_batch, max_load=1e6)
    world: PretendedTime | RealTime
    if isinstance(backend, BlankBackend):
        world = PretendedTime(backend, config, listener)
    else:
        world = RealTime(backend, config, listener)
    try:
        for n in range(sessions):
            world.engine.open(OpenSession(f"s{n}", PROMPT, n))
            world.engine.set_watched(f"s{n}", True)
            world.run(segment_s / sessions)
        world.run(SETTLE_SEGMENTS * segment_s)
        listener.take()
        begun_s, busy_s = world.now_s(), world.engine.busy_s
        world.run(seconds)
        made, span_s, busy_s = listener.take(), world.now_s() - begun_s, world.engine.busy_s - busy_s
    finally:
        world.engine.close()
    total_ms = [s.timings_ms["total"] for s in made]
    count = max(1, len(made))
    return {
        "batching": "no" if max_batch == 1 else f"to {max_batch}",
        "sessions": sessions,
        "late %": round(100 * sum(s.lead_s < 0 for s in made) / count, 1),
        "slow %": round(100 * sum(s.rate < 1 for s in made) / count, 1),
        "speed": round(len(made) * segment_s / span_s / sessions, 3),
        "segment p50 ms": round(percentile(total_ms, 0.5), 1) if made else None,
        "segment p95 ms": round(percentile(total_ms, 0.95), 1) if made else None,
        "device busy %": round(100 * busy_s / span_s, 1),
        "segments": len(made),
    }


def in_real_time(row: dict[str, Any]) -> bool:
    return bool(row["segments"] and row["late %"] + row["slow %"] <= 100 * BROKEN)


def until_it_breaks(
    backend: Backend,
    counts: Sequence[int],
    max_batch: int,
    seconds: float,
    *,
    play: Callable[[Backend, int, int, float], dict[str, Any]] = play,
) -> tuple[list[dict[str, Any]], int]:
    """The rows, and the knee: the largest number of sessions in real time. Extra runs narrow it down between
    the last count in real time and the first one beyond. `play` makes one row."""
    rows, knee, todo = [], 0, list(counts)
    for _ in range(len(counts) + CLOSER):
        if not todo:
            break
        sessions = todo.pop(0)
        rows.append(play(backend, sessions, max_batch, seconds))
        if in_real_time(rows[-1]):
            knee = sessions
        else:
            todo = []
        broken = [r["sessions"] for r in rows if not in_real_time(r)]
        if broken and min(broken) - knee > 1:
            todo = [(min(broken) + knee) // 2]
    return sorted(rows, key=lambda r: int(r["sessions"])), knee


class Stopwatch:
    """Separates a backend's processor time on the calling thread from everything else."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.name, self.spec, self.fingerprint = inner.name, inner.spec, inner.fingerprint
        self.spent_s = 0.0

    def run(self, role: str, inputs: Arrays) -> dict[str, Any]:
        start_s = time.thread_time()
        try:
            return self._inner.run(role, inputs)
        finally:
            self.spent_s += time.thread_time() - start_s

    def tokenize(self, text: str) -> tuple[Any, Any]:
        return self._inner.tokenize(text)

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return self._inner.sampler(steps, noise)

    def close(self) -> None:
        self._inner.close()


def own_ms(spec: ModelSpec, sessions: int, segments: int = OWN_SEGMENTS) -> float:
    """Processor time of the runtime per segment, on a device that costs nothing and a clock that jumps."""
    now_s, listener = 0.0, Listener()
    backend = Stopwatch(BlankBackend(spec))
    config = RuntimeConfig(max_sessions=sessions, max_load=1e6)
    engine = Engine(backend, config, listener, lambda: now_s)
    try:
        for n in range(sessions):
            engine.open(OpenSession(f"s{n}", PROMPT, n))
            engine.set_watched(f"s{n}", True)
        while len(listener.made) < sessions:  # the first segments prepare a scene
            now_s = max(now_s, engine.step() or now_s)
        listener.take()
        start_s, backend.spent_s = time.thread_time(), 0.0
        while len(listener.made) < segments:
            now_s = max(now_s, engine.step() or now_s)
        spent_s = time.thread_time() - start_s - backend.spent_s
        return 1000 * spent_s / len(listener.made)
    finally:
        engine.close()


def measure(backend: Backend, counts: Sequence[int], max_batch: int, seconds: float) -> BenchReport:
    spec = backend.spec
    report = BenchReport(
        "load", description(), {"model": spec.name, "backend": backend.name, "seconds each": seconds}
    )
    rows = report.tables["sessions at once"] = []
    knees = {}
    for most in dict.fromkeys((1, max_batch)):
        found, knees[most] = until_it_breaks(backend, counts, most, seconds)
        rows += found
    one = report.singles
    one["sessions in real time, one by one"] = (knees[1], "")
    one[f"sessions in real time, batches to {max_batch}"] = (knees[max_batch], "")
    if knees[1]:
        one["gain by batching"] = (round(knees[max_batch] / knees[1], 2), "×")
    for sessions in (1, 8):
        one[f"runtime's own processor time per segment, {sessions} sessions"] = (
            round(own_ms(spec, sessions), 3),
            "ms",
        )
    report.notes.append(
        f"In real time: at most {100 * BROKEN:g} % of the segments late or in slow motion. Speed 1 is real "
        "time. Not measured here: encoding and sending."
    )
    return report
