"""Measures the times of turns and worthwhile batch sizes, before the first session is opened.

It generates segments of a scratch session that nobody sees.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from engine.config import RuntimeConfig
from engine.errors import BackendError
from engine.runtime.device.admission import worthwhile
from engine.runtime.device.costs import Clock, Costs
from engine.runtime.device.scheduler import SegmentStage
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.session.session import Session
from engine.runtime.session.timeline import prepare_all
from engine.runtime.state.opening import opened
from engine.types import OpenSession

log = logging.getLogger(__name__)
SEGMENTS = 3
SLOW_S = 5.0  # if a segment takes longer, warming up further is not worth the time
TRIES_S = 10.0  # larger batches are not tried after this long


class Measured(NamedTuple):
    usual_s: float  # seconds of a segment alone
    limits: dict[SegmentStage, int]  # rows that may share a turn
    job: Job  # the segment that was measured


def warm_up(generator: Generator, costs: Costs, config: RuntimeConfig, clock: Clock) -> Measured:
    """Times a few segments alone (one on a slow device), then turns of 2, 4, … rows for as long as that is
    cheaper per row. Raises BackendError."""
    start_s, spec = clock(), generator.spec
    blank = np.zeros((3, spec.height, spec.width), np.uint8) if spec.needs_image else None
    command = OpenSession("warm-up", "", 0, blank)
    scratch = Session(command, opened(command, spec), spec, config, clock())
    prepare_all(generator.conditioner, [scratch.timeline])
    job, usual_s = scratch.timeline.job(), 0.0
    for _ in range(SEGMENTS):
        usual_s = _segment(generator, costs, job, clock)
        if usual_s > SLOW_S:
            return Measured(usual_s, dict.fromkeys(SegmentStage, config.max_batch), job)
    sizes = [1]
    for rows in _larger(config.max_batch):
        if clock() - start_s > TRIES_S or worthwhile(costs.seconds, SegmentStage.DENOISE, sizes) < sizes[-1]:
            break
        try:
            _turns(generator, costs, job, rows)
        except BackendError as error:
            log.warning("batches of %d are too large for this device: %s", rows, error)
            break
        sizes.append(rows)
    limits = {stage: worthwhile(costs.seconds, stage, sizes) for stage in SegmentStage}
    return Measured(usual_s, limits | {SegmentStage.PREPARE: max(limits.values())}, job)


def _larger(most: int) -> list[int]:
    """2, 4, … and `most`."""
    return sorted({min(2**n, most) for n in range(1, most.bit_length() + 1)} - {1})


def _segment(generator: Generator, costs: Costs, job: Job, clock: Clock) -> float:
    """Seconds of one segment, scaled to the usual number of steps."""
    start_s, draft = clock(), generator.begin(job)
    steps = draft.steps_left
    while draft.steps_left:
        with costs.measured(SegmentStage.DENOISE, 1, draft.sampler.role):
            generator.step([draft])
    with costs.measured(SegmentStage.DECODE, 1):
        generator.decode([draft])
    with costs.measured(SegmentStage.REMEMBER, 1):
        generator.remember([draft])
    draft.commit()
    return (clock() - start_s) * generator.spec.steps / steps


def _turns(generator: Generator, costs: Costs, job: Job, rows: int) -> None:
    """One turn of each stage, twice, since libraries initialise in the first. For a model that denoises at
    several sizes: all steps, so that the last size is included."""
    for _ in range(2):
        drafts = [generator.begin(job) for _ in range(rows)]
        for _ in range(drafts[0].steps_left if len(generator.spec.denoise_roles) > 1 else 1):
            with costs.measured(SegmentStage.DENOISE, rows, drafts[0].sampler.role):
                generator.step(drafts)
        for stage, run in (
            (SegmentStage.DECODE, generator.decode),
            (SegmentStage.REMEMBER, generator.remember),
        ):
            with costs.measured(stage, rows):
                run(drafts)
