"""States at the ends of a session's latest segments. `now`, rewind, fork and snapshot go back to them.

The list is bounded, since a state has a constant size and shares much of it with its neighbours: every
boundary of the last seconds, fewer of the last minute. It is a tuple that is replaced and never changed, so
any thread may read it at any time. Backends and clients are unknown here. All times are of one monotonic
clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from engine.model.signature import ModelSpec
from engine.runtime.state.change import Change, total
from engine.runtime.state.opening import Opening
from engine.runtime.state.state import SessionState
from engine.types import Prompts

DENSE = 12  # every one of the latest moments is kept,
APART_S = 2.0  # of older ones one per this many seconds of video
KEPT_S = 60.0
MOST_BYTES = 64 * 2**20  # large models keep fewer,
LEAST = 4  # but as many as `now` may need: the segment on the screen, and those made after it


@dataclass(frozen=True)
class Moment:
    """The end of a segment. Nobody may change `state`."""

    segment: int  # -1 before the first
    state: SessionState
    prompts: Prompts
    held: str | None  # the held action
    due_s: float  # when the segment started to be shown,
    end_s: float  # and when it ends
    position_s: float = 0.0  # seconds of video shown up to here, without stalls
    change: Change | None = None  # made here by controls


def first_moment(opening: Opening, now_s: float, segment: int = -1) -> Moment:
    """The moment before the first segment."""
    return Moment(segment, opening.state.copy(), opening.prompts, opening.held, now_s, now_s)


class Past(Protocol):
    """What a timeline needs of its past."""

    @property
    def moments(self) -> tuple[Moment, ...]:
        """What is kept, oldest first. The latest is always kept."""
        ...

    def add(self, moment: Moment) -> None:
        """A segment was made."""
        ...

    def note(self, change: Change) -> None:
        """`change` was made at the end of the latest segment."""
        ...

    def on_screen(self, now_s: float) -> Moment:
        """The end of the segment that is being shown, or was shown last."""
        ...

    def ago(self, seconds: float, now_s: float) -> Moment:
        """The start of what was shown `seconds` before now, or the oldest moment."""
        ...

    def position_s(self, now_s: float) -> float:
        """Seconds of video shown by now, without stalls."""
        ...

    def since(self, moment: Moment) -> Change | None:
        """The sum of all changes made at `moment` or later."""
        ...

    def forget_after(self, moment: Moment) -> None:
        """`moment` is the latest again, and its own change is not made yet."""
        ...


class LivePast:
    """Goes back by the clock. At most `most` moments are kept."""

    def __init__(self, first: Moment, most: int) -> None:
        self.moments: tuple[Moment, ...] = (first,)
        self._most = most

    def add(self, moment: Moment) -> None:
        before = self.moments[-1].position_s
        moment = replace(moment, position_s=before + moment.end_s - moment.due_s)
        self.moments = _thinned((*self.moments, moment), self._most)

    def note(self, change: Change) -> None:
        latest = self.moments[-1]
        self.moments = (*self.moments[:-1], replace(latest, change=total([latest.change, change])))

    def on_screen(self, now_s: float) -> Moment:
        shown = [m for m in self.moments if m.due_s <= now_s]
        return shown[-1] if shown else self.moments[0]

    def ago(self, seconds: float, now_s: float) -> Moment:
        wanted_s = self.position_s(now_s) - seconds
        early = [m for m in self.moments if m.position_s <= wanted_s]
        return early[-1] if early else self.moments[0]

    def position_s(self, now_s: float) -> float:
        screen = self.on_screen(now_s)
        return screen.position_s - max(0.0, screen.end_s - max(now_s, screen.due_s))

    def since(self, moment: Moment) -> Change | None:
        return total(m.change for m in self.moments if m.segment >= moment.segment)

    def forget_after(self, moment: Moment) -> None:
        kept = tuple(m for m in self.moments if m.segment < moment.segment)
        self.moments = (*kept, replace(moment, change=None))


class Limits(NamedTuple):
    moments: int  # at most
    nbytes: int  # of them at most


def limits(state: SessionState, spec: ModelSpec) -> Limits:
    """How much past is kept for a state of this size."""
    near, far = (state.changed_bytes(n, spec.segment) for n in (1, 1 + math.ceil(APART_S / spec.segment_s)))
    dense = max(LEAST, min(DENSE, MOST_BYTES // near))
    sparse = max(0, min(int(KEPT_S / APART_S), (MOST_BYTES - dense * near) // far))
    return Limits(dense + sparse, state.nbytes + dense * near + sparse * far)


def _thinned(moments: tuple[Moment, ...], most: int) -> tuple[Moment, ...]:
    """After a moment was added: drop the one that leaves the dense part if it is close to the one before, and
    the oldest if there are too many."""
    i = len(moments) - 1 - DENSE
    if i > 0 and moments[i].position_s < moments[i - 1].position_s + APART_S:
        moments = (*moments[:i], *moments[i + 1 :])
    oldest_s = moments[-1].position_s - KEPT_S
    while len(moments) > most or (len(moments) > DENSE and moments[0].position_s < oldest_s):
        moments = moments[1:]
    return moments
