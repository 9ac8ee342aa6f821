"""Which worker gives a session to which other one: a policy over plain numbers.

A session moves only if that helps those who watch: its worker plays slower than natural speed, or has more
sessions than it serves in real time. A session that plays in real time stays, since a move costs it its past
(rewind and fork reach back to the move) and makes the other worker generate at once. So loads need not be
equal.

Nothing flaps: trouble must last, a target has clearly more room than the source, figures settle after each
move, and a target that became slow by it is left alone for longer and longer. Gateways don't talk about this:
each waits for a time of its own, so that it sees what the others have moved.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

SLOW_S, OVER_S = 3.0, 8.0  # how long a worker must be slow, or over capacity; up to twice that, by chance
GAIN = 0.9  # the target's load after the move is at most this share of the source's load before
NEXT_S, SETTLE_S = 2.0, 10.0  # until a worker's next move: while it is over capacity, and otherwise
PROOF_S = 30.0  # a worker that becomes slow within this time after it took a session had no room
AVOID_S, MOST_AVOID_S = 60.0, 960.0  # doubled each time


@dataclass(frozen=True)
class WorkerLoad:
    """`capacity` is how many sessions it serves in real time, `playing` how many of all gateways use its
    device. `slow`: sessions of this gateway play below natural speed there. `gives`: one of them may move.
    `takes`: a session may be opened there."""

    name: str
    capacity: int
    playing: int
    slow: bool = False
    gives: bool = True
    takes: bool = True

    @property
    def over(self) -> bool:
        return self.playing > self.capacity

    def share(self, more: int = 0) -> float:
        """Of its capacity that is in use, with so many more sessions."""
        return (self.playing + more) / max(1, self.capacity)


class Move(NamedTuple):
    source: str
    target: str


@dataclass
class _Known:
    """What is remembered of a worker."""

    since_s: float | None = None  # when it got into trouble
    slow_since_s: float | None = None
    doubt: float = 0.0  # 0 to 1: how much longer than necessary this gateway waits this time
    quiet_until_s: float = -math.inf  # takes and gives nothing
    settled_s: float = -math.inf  # gives nothing before, unless it is over its capacity
    took_s: float | None = None  # when it took a session that it has to prove itself with
    avoided: int = 0  # how often it has failed to, in a row
    avoid_until_s: float = -math.inf
    moves: bool = False  # it is part of a move now


class BalancePolicy:
    """It has no clock and moves nothing. Call `moves` about every second, and `ended` after each move.
    `chance` gives numbers from 0 to 1."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._workers: dict[str, _Known] = {}

    def moves(self, loads: Sequence[WorkerLoad], now_s: float) -> list[Move]:
        """The moves to begin now: each worker is part of one at most."""
        self._workers = {each.name: self._workers.get(each.name) or _Known() for each in loads}
        for load in loads:
            self._observe(load, self._workers[load.name], now_s)
        begun: list[Move] = []
        waiting = [load for load in loads if load.gives and self._must_give(load, now_s)]
        for source in sorted(waiting, key=lambda load: (not load.slow, -load.share(), load.name)):
            targets = [load for load in loads if self._fits(source, load, now_s)]
            if targets and not self._workers[source.name].moves:
                target = min(targets, key=lambda load: (load.share(more=1), load.name))
                begun.append(Move(source.name, target.name))
                for name in begun[-1]:
                    self._workers[name].moves = True
        return begun

    def ended(self, move: Move, now_s: float, *, moved: bool) -> None:
        """A move has ended; not `moved`: the session is where it was."""
        for name in move:
            if (known := self._workers.get(name)) is not None:
                known.moves, known.doubt = False, self._chance()
                known.quiet_until_s = now_s + (NEXT_S if moved else SETTLE_S) * (1 + known.doubt)
                known.settled_s = now_s + SETTLE_S * (1 + known.doubt)
        if moved and (target := self._workers.get(move.target)) is not None:
            target.took_s = now_s

    def _observe(self, load: WorkerLoad, known: _Known, now_s: float) -> None:
        if not (load.slow or load.over):
            known.since_s = None
        elif known.since_s is None:
            known.since_s, known.doubt = now_s, self._chance()
        if not load.slow:
            known.slow_since_s = None
        elif known.slow_since_s is None:
            known.slow_since_s = now_s
        if known.took_s is None:
            return
        if known.slow_since_s is not None and now_s - known.slow_since_s >= SLOW_S:
            known.avoid_until_s = now_s + min(AVOID_S * 2.0**known.avoided, MOST_AVOID_S)
            known.took_s, known.avoided = None, known.avoided + 1
        elif now_s - known.took_s > PROOF_S:
            known.took_s, known.avoided = None, 0

    def _must_give(self, load: WorkerLoad, now_s: float) -> bool:
        known = self._workers[load.name]
        if known.since_s is None:
            return False
        lasts_s = (SLOW_S if load.slow else OVER_S) * (1 + known.doubt)
        settled_s = known.quiet_until_s if load.over else known.settled_s
        return now_s - known.since_s >= lasts_s and now_s >= settled_s

    def _fits(self, source: WorkerLoad, target: WorkerLoad, now_s: float) -> bool:
        """Whether the target plays one more session in real time, with clearly less load than the source."""
        known = self._workers[target.name]
        ready = target.takes and not target.slow and not known.moves
        if not ready or now_s < max(known.quiet_until_s, known.avoid_until_s):
            return False
        after = target.share(more=1)
        return after <= 1 and after <= GAIN * source.share()
