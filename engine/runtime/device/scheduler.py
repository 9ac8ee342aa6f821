"""What the device does next: a pure policy over plain numbers. It knows no tensors, threads or clients.

A segment is prepared, takes some denoise steps, is decoded and remembered; each turn of the device is one of
these stages for some sessions at once. Earliest playout deadline first. Deadlines stay as they are while a
segment waits and later segments have later ones, so nobody starves, and nobody is overtaken more than once
by the same rival: work in flight is not tossed about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple


class Stage(IntEnum):
    """In the order in which a segment goes through them."""

    PREPARE = 0
    DENOISE = 1
    DECODE = 2
    REMEMBER = 3


class Candidate(NamedTuple):
    """A session that may generate. Its next segment should start at `wanted_s`, be ready at `deadline_s`."""

    session: str
    wanted_s: float
    deadline_s: float


class Work(NamedTuple):
    """What a session needs next. Only what is not begun, PREPARE, may have to wait for its `wanted_s`."""

    session: str
    stage: Stage
    deadline_s: float
    wanted_s: float = 0.0


class Turn(NamedTuple):
    stage: Stage
    sessions: list[str]


def pick(work: Sequence[Work], now_s: float, limits: Mapping[Stage, int]) -> Turn | None:
    """The next turn: the stage of the most urgent due work, and whoever can share it; None: nothing is due.

    `limits` says how many may share a stage. Before a denoise step that has room, those who are due are begun
    and so join it, whatever their deadlines: their rows make the step only a little longer, and the device
    has fewer to make."""
    due = sorted((w for w in work if w.stage or w.wanted_s <= now_s), key=_urgency)
    if not due:
        return None
    stage, most = due[0].stage, limits[due[0].stage]
    if stage is Stage.DENOISE:
        room = limits[stage] - sum(w.stage is Stage.DENOISE for w in due)
        if room > 0 and any(w.stage is Stage.PREPARE for w in due):
            stage, most = Stage.PREPARE, min(room, limits[Stage.PREPARE])
    return Turn(stage, [w.session for w in due if w.stage is stage][:most])


def next_wake(work: Sequence[Work]) -> float | None:
    """When somebody will be due, if nobody is; None: only a control or a viewer can bring work."""
    return min((w.wanted_s for w in work), default=None)


def _urgency(w: Work) -> tuple[float, int, str]:
    return w.deadline_s, -w.stage, w.session  # of two that are as urgent, the one that is nearly done
