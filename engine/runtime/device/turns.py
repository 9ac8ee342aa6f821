"""Runs turns of the device for segments in progress, and keeps those segments.

If a batch fails, each row is retried alone, so that only the row at fault is reported. If memory runs out,
later batches are smaller too. This module knows no clients; engine.runtime.device.scheduler decides what
runs.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.errors import BackendError, OutOfMemory
from engine.runtime.device.costs import Clock, Costs
from engine.runtime.device.scheduler import NextStage, SegmentStage, Turn
from engine.runtime.segment.draft import Draft
from engine.runtime.segment.generator import Generator
from engine.runtime.session.pacing import Shown
from engine.runtime.session.session import Session
from engine.runtime.session.timeline import prepare_all
from engine.types import SegmentReady

log = logging.getLogger(__name__)
NAMES = {
    SegmentStage.PREPARE: "prepare",
    SegmentStage.DENOISE: "denoise",
    SegmentStage.DECODE: "decode",
    SegmentStage.REMEMBER: "memory",
}


class NonFinite(BackendError):
    code = "not_finite"


@dataclass
class InProgress:
    """A session's next segment. `draft` is None until its state is prepared."""

    session: Session
    epoch: int
    started_s: float
    deadline_s: float
    draft: Draft | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def stage(self) -> SegmentStage:
        if self.draft is None:
            return SegmentStage.PREPARE
        if self.draft.steps_left:
            return SegmentStage.DENOISE
        return SegmentStage.DECODE if self.draft.frames is None else SegmentStage.REMEMBER

    @property
    def role(self) -> str:
        """Of its next denoise step; empty in other stages."""
        return self.draft.sampler.role if self.draft is not None and self.draft.steps_left else ""

    @property
    def not_finite(self) -> bool:
        return self.draft is not None and not self.draft.steps_left and not self.draft.finite

    def ready(self, number: int, first_frame: int, shown: Shown, ready_s: float) -> SegmentReady:
        """The event for a committed segment."""
        assert self.draft is not None
        assert self.draft.frames is not None
        return SegmentReady(
            session=self.session.id,
            epoch=self.epoch,
            segment=number,
            first_frame=first_frame,
            due_s=shown.due_s,
            frames=self.draft.frames,
            timings_ms={**self.timings_ms, "total": (ready_s - self.started_s) * 1e3},
            lead_s=shown.ahead_s,
            late_total=shown.playout.late_total,
            speed=self.session.speed,
            rate=self.session.pace.rate,
        )


class TurnResult(NamedTuple):
    done: list[InProgress]  # to be committed
    failed: list[tuple[Session, Exception]]


class TurnRunner:
    """For the device thread. `limits` says how many rows may share a turn of a stage."""

    def __init__(self, generator: Generator, costs: Costs, max_batch: int, clock: Clock) -> None:
        self.costs = costs
        self.limits = dict.fromkeys(SegmentStage, max_batch)
        self.out_of_memory_s: float | None = None  # when memory last ran out
        self._generator = generator
        self._clock = clock
        self._segments: dict[str, InProgress] = {}  # by session
        self._stages: dict[SegmentStage, Callable[[Sequence[InProgress]], None]] = {
            SegmentStage.PREPARE: self._prepare,
            SegmentStage.DENOISE: lambda batch: generator.step(_drafts(batch)),
            SegmentStage.DECODE: lambda batch: generator.decode(_drafts(batch)),
            SegmentStage.REMEMBER: lambda batch: generator.remember(_drafts(batch)),
        }

    def __contains__(self, session: str) -> bool:
        return session in self._segments

    def work(self) -> list[NextStage]:
        return [NextStage(name, s.stage, s.deadline_s, role=s.role) for name, s in self._segments.items()]

    def begin(self, session: Session, deadline_s: float) -> None:
        """Start the session's next segment. Its first turn is PREPARE."""
        epoch = session.timeline.epoch
        self._segments[session.id] = InProgress(session, epoch, self._clock(), deadline_s)

    def drop(self, unwanted: Callable[[InProgress], bool]) -> list[InProgress]:
        """Drop and return the segments that are no longer wanted."""
        dropped = [segment for segment in self._segments.values() if unwanted(segment)]
        for segment in dropped:
            del self._segments[segment.session.id]
        return dropped

    def run(self, turn: Turn) -> TurnResult:
        """Run one turn. Segments that are done or have failed are no longer in progress afterwards."""
        batch = [self._segments[name] for name in turn.sessions]
        failed = self._run(turn.stage, batch)
        if turn.stage is SegmentStage.DENOISE:
            message = "the model produced numbers that are not finite: open a new session"
            failed += [(segment, NonFinite(message)) for segment in batch if segment.not_finite]
        done = [s for s in batch if s.draft is not None and s.draft.outcome is not None]
        for segment in [*done, *(s for s, _ in failed)]:
            del self._segments[segment.session.id]
        return TurnResult(done, [(segment.session, error) for segment, error in failed])

    def _run(self, stage: SegmentStage, batch: Sequence[InProgress]) -> list[tuple[InProgress, Exception]]:
        """The segments that failed, and their errors."""
        try:
            with self.costs.measured(stage, len(batch), batch[0].role) as took_s:
                self._stages[stage](batch)
        except Exception as error:  # whatever a backend raises, other sessions go on
            failure = OutOfMemory("memory ran out") if isinstance(error, MemoryError) else error
            if isinstance(failure, OutOfMemory):
                self._shrink(len(batch))
            if len(batch) == 1:
                return [(batch[0], failure)]
            log.warning("a batch of %d failed, trying each row alone: %s", len(batch), error)
        else:
            for segment in batch:
                name = NAMES[stage]
                segment.timings_ms[name] = segment.timings_ms.get(name, 0.0) + took_s() * 1e3
            return []
        gc.collect()  # the error is released, and with it the objects that its stack frames referenced
        return [failed for segment in batch for failed in self._run(stage, [segment])]

    def _prepare(self, batch: Sequence[InProgress]) -> None:
        todo = [segment for segment in batch if segment.draft is None]
        prepare_all(self._generator.conditioner, [segment.session.timeline for segment in todo])
        for segment in todo:
            segment.draft = self._generator.begin(segment.session.timeline.job())

    def _shrink(self, rows: int) -> None:
        most = max(1, rows // 2)
        self.limits = {stage: min(limit, most) for stage, limit in self.limits.items()}
        self.out_of_memory_s = self._clock()
        log.error("out of memory with %d in a batch: at most %d from now on", rows, most)


def _drafts(batch: Sequence[InProgress]) -> list[Draft]:
    return [segment.draft for segment in batch if segment.draft is not None]
