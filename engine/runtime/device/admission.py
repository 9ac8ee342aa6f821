"""How many sessions a device can serve: pure functions over what its turns were measured to take.

Capacity is the number of sessions whose segments fit, batched as the scheduler batches them, into a share of
the device's time. It knows no sessions, threads or clocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from engine.runtime.device.scheduler import Stage

WORTH = 0.9  # a larger batch must make a row so much cheaper, since it is slower to answer who is urgent
REFUSE_S = 30.0  # after memory ran out, nobody new for so long
LEAST_RETRY_S, MOST_RETRY_S = 1.0, 30.0

Turns = Callable[[Stage, int], float | None]  # seconds of a turn of so many rows; None: never seen


def row_s(turns: Turns, limits: Mapping[Stage, int], steps: int, sessions: int) -> float | None:
    """Device seconds that a segment of one of `sessions` takes, all of them busy; None: not known yet.

    Denoise steps share full batches. The other stages come once per segment, where drafts meet by chance: on
    a device at its limit, batches half as large. What is prepared counts as usual: mostly nothing."""
    total_s = 0.0
    for stage in Stage:
        most = limits[stage] if stage is Stage.DENOISE else (limits[stage] + 1) // 2
        rows = min(sessions, most)
        turn_s = turns(stage, rows)
        if turn_s is None:
            if stage is Stage.PREPARE:
                continue
            return None
        total_s += turn_s / rows * (steps if stage is Stage.DENOISE else 1)
    return total_s


def capacity(
    turns: Turns,
    limits: Mapping[Stage, int],
    *,
    steps: int,
    segment_s: float,
    max_load: float,
    most: int,
    own_s: float = 0.0,
) -> int:
    """Sessions that can be served in real time in `max_load` of the device thread's time, from 1 to `most`.
    `own_s` of it goes, for each segment, between turns, while the device waits. A device that is too slow for
    one serves one, slowly; of one that was never measured all is hoped."""
    full, time_s = max(limits.values()), max_load * segment_s
    for sessions in range(full, 0, -1):
        each_s = row_s(turns, limits, steps, sessions)
        if each_s is None:
            return most
        each_s += own_s
        if sessions * each_s <= time_s:
            return min(most, sessions if sessions < full else int(time_s / max(each_s, 1e-9)))
    return 1


def worthwhile(turns: Turns, stage: Stage, sizes: Sequence[int]) -> int:
    """The smallest of the batch sizes that is about as cheap per row as any of them."""
    rows_s = {n: turn_s / n for n in sizes if (turn_s := turns(stage, n)) is not None}
    best_s = min(rows_s.values(), default=0.0)
    return min((n for n, each_s in rows_s.items() if each_s * WORTH <= best_s), default=1)


def taken(active: int, idle: int, idle_share: float) -> int:
    """Places of the capacity that are taken. Who is paused or unwatched takes none of the device's time, but
    some come back: of many, so many places are kept; for a few, none."""
    return active + math.floor(idle * idle_share)


def retry_after_s(free_in_s: Sequence[float]) -> int:
    """What to tell who is refused; `free_in_s` are the times after which a place might be free."""
    soonest_s = min(free_in_s, default=MOST_RETRY_S / 3)
    return math.ceil(min(max(soonest_s, LEAST_RETRY_S), MOST_RETRY_S))
