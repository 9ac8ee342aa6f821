"""The size of a session, and the cost of a snapshot, a restore and a fork: part of `psistream bench step`.

The engine's clock jumps, so playback takes no time. Times are those of the calls that a request waits for;
the first segment afterwards costs as much as any other.
"""

from __future__ import annotations

from benchmarks.engine.step import times_taken_ms
from benchmarks.report import BenchError, BenchReport
from engine.backends.base import Backend
from engine.config import RuntimeConfig
from engine.runtime.device.engine import Engine
from engine.types import Action, Control, OpenSession, RuntimeEvent, SegmentReady

WALKED_S = 30.0  # of video to go back in


class RunningSession:
    """One session that has been walking for a while."""

    def __init__(self, backend: Backend) -> None:
        self.now_s, self.made = 0.0, 0
        self.engine = Engine(
            backend, RuntimeConfig(max_sessions=4, max_load=1e6), self._receive, lambda: self.now_s
        )
        self._open(OpenSession("walk", "a red fox walks right through a forest", 1))
        self.engine.submit("walk", Control("walk", Action("right")))
        self._make(round(WALKED_S / backend.spec.segment_s))

    def snapshot(self) -> bytes:
        return self.engine.take("walk", "snapshot").data

    def restore(self, snapshot: bytes) -> None:
        self._open(OpenSession("other", None, None, snapshot=snapshot))

    def fork(self) -> None:
        self._open(OpenSession("other", None, None, fork_of="walk"))

    def close(self) -> None:
        """Close the second session."""
        self.engine.close_session("other")
        self.engine.step()

    def _open(self, command: OpenSession) -> None:
        self.engine.open(command)
        self.engine.set_watched(command.session, True)

    def _make(self, segments: int) -> None:
        wanted = self.made + segments
        while self.made < wanted:
            wake_s = self.engine.step()
            if wake_s is None:
                raise BenchError("the session ended while it was measured")
            self.now_s = max(self.now_s, wake_s)

    def _receive(self, event: RuntimeEvent) -> None:
        self.made += isinstance(event, SegmentReady)


def measure(backend: Backend, n: int, report: BenchReport) -> None:
    """Add rows to the report. Raises BenchError, PsistreamError."""
    past = RunningSession(backend)
    try:
        kept = past.snapshot()
        report.singles["state of a session"] = (past.engine.state_bytes, "bytes")
        report.singles["snapshot of a session"] = (len(kept), "bytes")
        report.series["snapshot"] = times_taken_ms(n, past.snapshot)
        report.series["session from a snapshot"] = times_taken_ms(n, lambda: past.restore(kept), past.close)
        report.series["fork"] = times_taken_ms(n, past.fork, past.close)
    finally:
        past.engine.close()
