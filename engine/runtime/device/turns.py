"""The segments that are in the making: runs a turn for some of them, keeps what each has taken so far.

Where a batch fails, each of its rows is tried alone, so that only the culprit is told as failed; where memory
runs out, later batches are smaller as well. It knows no clients and decides nothing: see
engine.runtime.device.scheduler.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.errors import BackendError, OutOfMemory
from engine.runtime.device.costs import Clock, Costs
from engine.runtime.device.scheduler import Stage, Turn, Work
from engine.runtime.segment.draft import Draft
from engine.runtime.segment.generator import Generator
from engine.runtime.session.session import Session
from engine.runtime.session.timeline import prepare_all

log = logging.getLogger(__name__)
NAMES = {Stage.PREPARE: "prepare", Stage.DENOISE: "denoise", Stage.DECODE: "decode", Stage.REMEMBER: "memory"}


class NotFinite(BackendError):
    code = "not_finite"


@dataclass
class Begun:
    """A session's next segment. `draft` is None until what it needs is prepared."""

    session: Session
    epoch: int
    started_s: float
    deadline_s: float
    draft: Draft | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        if self.draft is None:
            return Stage.PREPARE
        if self.draft.steps_left:
            return Stage.DENOISE
        return Stage.DECODE if self.draft.frames is None else Stage.REMEMBER


class Result(NamedTuple):
    done: list[Begun]  # to be committed
    failed: list[tuple[Session, Exception]]


class Workbench:
    """For the device thread. `limits` says how many may share a turn of a stage."""

    def __init__(self, generator: Generator, costs: Costs, max_batch: int, clock: Clock) -> None:
        self.costs = costs
        self.limits = dict.fromkeys(Stage, max_batch)
        self.out_of_memory_s: float | None = None  # when memory last ran out
        self._generator = generator
        self._clock = clock
        self._begun: dict[str, Begun] = {}
        self._stages: dict[Stage, Callable[[Sequence[Begun]], None]] = {
            Stage.PREPARE: self._prepare,
            Stage.DENOISE: lambda batch: generator.step(_drafts(batch)),
            Stage.DECODE: lambda batch: generator.decode(_drafts(batch)),
            Stage.REMEMBER: lambda batch: generator.remember(_drafts(batch)),
        }

    def __contains__(self, session: str) -> bool:
        return session in self._begun

    def work(self) -> list[Work]:
        return [Work(name, b.stage, b.deadline_s) for name, b in self._begun.items()]

    def begin(self, session: Session, deadline_s: float) -> None:
        """Takes its PREPARE turn next."""
        self._begun[session.id] = Begun(session, session.epoch, self._clock(), deadline_s)

    def drop(self, unwanted: Callable[[Begun], bool]) -> list[Begun]:
        """Throw away what nobody wants any more; these."""
        dropped = [b for b in self._begun.values() if unwanted(b)]
        for begun in dropped:
            del self._begun[begun.session.id]
        return dropped

    def run(self, turn: Turn) -> Result:
        """One turn for sessions that have begun. What is done or has failed is on the bench no more."""
        batch = [self._begun[name] for name in turn.sessions]
        failed = self._run(turn.stage, batch)
        if turn.stage is Stage.DENOISE:
            failed += [
                (b, NotFinite("the model's numbers ran away: open a new session"))
                for b in batch
                if _ran_away(b)
            ]
        done = [b for b in batch if b.draft is not None and b.draft.outcome is not None]
        for begun in [*done, *(b for b, _ in failed)]:
            del self._begun[begun.session.id]
        return Result(done, [(b.session, error) for b, error in failed])

    def _run(self, stage: Stage, batch: Sequence[Begun]) -> list[tuple[Begun, Exception]]:
        """Who failed, and how."""
        try:
            with self.costs.measured(stage, len(batch)) as took_s:
                self._stages[stage](batch)
        except Exception as error:  # whatever a backend raises, the other sessions go on
            failure = OutOfMemory("memory ran out") if isinstance(error, MemoryError) else error
            if isinstance(failure, OutOfMemory):
                self._shrink(len(batch))
            if len(batch) == 1:
                return [(batch[0], failure)]
            log.warning("a batch of %d failed, each is tried alone: %s", len(batch), error)
        else:
            for begun in batch:
                name = NAMES[stage]
                begun.timings_ms[name] = begun.timings_ms.get(name, 0.0) + took_s() * 1e3
            return []
        gc.collect()  # now that the error is gone, and what its frames held with it
        return [lost for begun in batch for lost in self._run(stage, [begun])]

    def _prepare(self, batch: Sequence[Begun]) -> None:
        todo = [begun for begun in batch if begun.draft is None]
        prepare_all(self._generator, [begun.session for begun in todo])
        for begun in todo:
            begun.draft = self._generator.begin(begun.session.job())

    def _shrink(self, rows: int) -> None:
        most = max(1, rows // 2)
        self.limits = {stage: min(limit, most) for stage, limit in self.limits.items()}
        self.out_of_memory_s = self._clock()
        log.error("out of memory with %d in a batch: at most %d from now on", rows, most)


def _drafts(batch: Sequence[Begun]) -> list[Draft]:
    return [b.draft for b in batch if b.draft is not None]


def _ran_away(begun: Begun) -> bool:
    draft = begun.draft
    return draft is not None and not draft.steps_left and not draft.finite
