"""Measures turns again while the device is idle, so that figures from a busy moment do not last.

A worker that started, or was last used, while other programs took its processor reports too little capacity.
Then it gets no sessions, so it would never learn better. An idle engine therefore generates two segments that
nobody sees: five seconds after the last work, then after ten more, and so on, up to once a minute. It takes
at most a hundredth of the device's time. Any work comes first, after the turn in progress.
"""

from __future__ import annotations

import logging
import math

from engine.errors import BackendError
from engine.runtime.device.admission import Admission
from engine.runtime.device.costs import Clock, Costs
from engine.runtime.device.scheduler import SegmentStage
from engine.runtime.device.warmup import Measured
from engine.runtime.segment.draft import Draft
from engine.runtime.segment.generator import Generator, Job

log = logging.getLogger(__name__)
FIRST_S, MOST_S = 5.0, 60.0  # intervals, each twice as long as the one before
SHARE = 0.01  # of the device's time
SEGMENTS = 2  # the first one also raises the clock rate of a device that saves power


class Remeasurement:
    """For the device thread. It does nothing before `start`. Only times that are clearly shorter count
    (`Costs.shortened`): nothing makes a device seem faster than it is."""

    def __init__(self, generator: Generator, costs: Costs, admission: Admission, clock: Clock) -> None:
        self._generator, self._costs, self._admission, self._clock = generator, costs, admission, clock
        self._job: Job | None = None  # its state stays as it is
        self._draft: Draft | None = None
        self._left = 0  # segments of the measurement in progress
        self._began_s, self._interval_s = 0.0, FIRST_S
        self._due_s: float | None = None
        self._took: list[float] = []  # seconds of each turn of the segment in progress
        self._fastest: dict[tuple[SegmentStage, str], float] = {}
        self.usual_s = 0.0  # of a segment alone

    def start(self, measured: Measured) -> None:
        """Go on from what was measured before the first session."""
        self._job, self.usual_s = measured.job, measured.usual_s
        self.used()

    def used(self) -> None:
        """The device has worked for sessions: begin again later."""
        self._interval_s = FIRST_S
        self._wait()

    def turn(self) -> float | None:
        """The device is idle: one turn, if it is due. Returns when to call this again."""
        if self._job is None or self._due_s is None or self._clock() < self._due_s:
            return self._due_s
        try:
            self._next(self._job)
        except BackendError as error:
            log.warning("the idle device could not be measured: %s", error)
            self._later(shorter=False)
        return self._clock()

    def _next(self, job: Job) -> None:
        if not self._left:
            self._left, self._began_s = SEGMENTS, self._clock()
        draft = self._draft = self._draft or self._generator.begin(job)
        stage, role, run = SegmentStage.REMEMBER, "", self._generator.remember
        if draft.steps_left:
            stage, role, run = SegmentStage.DENOISE, draft.sampler.role, self._generator.step
        elif draft.frames is None:
            stage, run = SegmentStage.DECODE, self._generator.decode
        with self._costs.timed() as took_s:
            run([draft])
            self._took.append(took_s())
        self._fastest[stage, role] = min(self._took[-1], self._fastest.get((stage, role), math.inf))
        if stage is SegmentStage.REMEMBER:
            self.usual_s = min(self.usual_s, sum(self._took))
            self._draft, self._took, self._left = None, [], self._left - 1
            if not self._left:
                shorter = [self._costs.shortened(*kind, turn_s) for kind, turn_s in self._fastest.items()]
                self._admission.remeasured()
                self._later(shorter=any(shorter))

    def _later(self, *, shorter: bool) -> None:
        """After a measurement. If the device has become faster, the next one follows soon."""
        self._interval_s = FIRST_S if shorter else min(2 * self._interval_s, MOST_S)
        self._wait((self._clock() - self._began_s) / SHARE)

    def _wait(self, least_s: float = 0.0) -> None:
        self._draft, self._took, self._left, self._fastest = None, [], 0, {}
        if self._job is not None:
            self._due_s = self._clock() + max(self._interval_s, least_s)
