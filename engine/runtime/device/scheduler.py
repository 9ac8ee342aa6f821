"""Chooses the device's next turn: a pure policy over plain numbers, without tensors, threads or clients.

A segment is prepared, denoised in steps, decoded and remembered. Each turn of the device is one of these
stages for some sessions at once, earliest playout deadline first. A deadline stays fixed while its segment
waits, and later segments have later ones. So no session starves, and none is overtaken more than once by the
same other session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple


class SegmentStage(IntEnum):
    """The stages of a segment, in order."""

    PREPARE = 0
    DENOISE = 1
    DECODE = 2
    REMEMBER = 3


class NextStage(NamedTuple):
    """The next stage of a session. Only PREPARE, the start of a segment, waits for its `wanted_s`."""

    session: str
    stage: SegmentStage
    deadline_s: float
    wanted_s: float = 0.0
    role: str = ""  # of a denoise step: models that work at several sizes have one for each


class Turn(NamedTuple):
    stage: SegmentStage
    sessions: list[str]


def pick(work: Sequence[NextStage], now_s: float, limits: Mapping[SegmentStage, int]) -> Turn | None:
    """The next turn: the stage of the most urgent due work, and all sessions that can share it (for a denoise
    step: those at the same role). None: nothing is due.

    `limits` says how many may share a stage. If a denoise step is not full, sessions that are due are
    prepared first and join it, whatever their deadlines: their rows lengthen the step only a little, and
    fewer steps are needed in total."""
    due = sorted((w for w in work if w.stage or w.wanted_s <= now_s), key=_urgency)
    if not due:
        return None
    stage, role, most = due[0].stage, due[0].role, limits[due[0].stage]
    if stage is SegmentStage.DENOISE:
        free = limits[stage] - sum(w.stage is SegmentStage.DENOISE for w in due)
        if free > 0 and any(w.stage is SegmentStage.PREPARE for w in due):
            stage, role, most = SegmentStage.PREPARE, "", min(free, limits[SegmentStage.PREPARE])
    return Turn(stage, [w.session for w in due if w.stage is stage and w.role == role][:most])


def next_wake(work: Sequence[NextStage]) -> float | None:
    """When the next session is due, if none is now. None: only a control or a viewer can bring work."""
    return min((w.wanted_s for w in work), default=None)


def _urgency(w: NextStage) -> tuple[float, int, str]:
    return w.deadline_s, -w.stage, w.session  # among equally urgent ones, the one closest to completion
