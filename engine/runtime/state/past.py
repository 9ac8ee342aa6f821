"""What a session was at the ends of its latest segments: to go back to, by `now`, rewind, fork and snapshot.

A bounded list, since a state has a constant size and shares much of it with the one before: every boundary of
the last seconds, fewer of the last minute. It is a tuple that is replaced and never changed, so another
thread may read it at any time. It knows no backend and no clients; all times are of one monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from engine.model.signature import ModelSpec
from engine.runtime.state.change import Change, Prompts, total
from engine.runtime.state.state import SessionState

DENSE = 12  # of the latest segments every one is kept
APART_S = 2.0  # of older ones one in so many seconds of video
KEPT_S = 60.0
MOST_BYTES = 64 * 2**20  # of large models fewer are kept,
LEAST = 4  # but as many as `now` may need: what is on the screen, and what was made beyond it


@dataclass(frozen=True)
class Moment:
    """The end of a segment. `state` is nobody's to change."""

    segment: int  # -1 before the first
    state: SessionState
    prompts: Prompts
    held: str | None
    due_s: float  # when the segment began to be shown,
    end_s: float  # and until when it is
    position_s: float = 0.0  # seconds shown up to here, without those in which the picture stood
    change: Change | None = None  # what controls changed here, once that is made


class Past:
    def __init__(self, first: Moment, most: int) -> None:
        """`most` moments are kept."""
        self.moments: tuple[Moment, ...] = (first,)
        self._most = most

    def add(self, moment: Moment) -> None:
        """Once its segment is made; `position_s` is filled in here."""
        before = self.moments[-1].position_s
        moment = replace(moment, position_s=before + moment.end_s - moment.due_s)
        self.moments = _thinned((*self.moments, moment), self._most)

    def note(self, change: Change) -> None:
        """It was made at the end of the latest segment."""
        latest = self.moments[-1]
        self.moments = (*self.moments[:-1], replace(latest, change=total([latest.change, change])))

    def on_screen(self, now_s: float) -> Moment:
        """The end of the segment that is shown now, or was shown last."""
        shown = [m for m in self.moments if m.due_s <= now_s]
        return shown[-1] if shown else self.moments[0]

    def ago(self, seconds: float, now_s: float) -> Moment:
        """The start of what was shown `seconds` before now, or the oldest that is kept."""
        wanted_s = self.position_s(now_s) - seconds
        early = [m for m in self.moments if m.position_s <= wanted_s]
        return early[-1] if early else self.moments[0]

    def position_s(self, now_s: float) -> float:
        """Of the frame that is shown now, as Moment.position_s."""
        screen = self.on_screen(now_s)
        return screen.position_s - max(0.0, screen.end_s - max(now_s, screen.due_s))

    def since(self, moment: Moment) -> Change | None:
        """All that was changed from its end on."""
        return total(m.change for m in self.moments if m.segment >= moment.segment)

    def forget_after(self, moment: Moment) -> None:
        """It is the latest again; what was changed there is yet to be made."""
        kept = tuple(m for m in self.moments if m.segment < moment.segment)
        self.moments = (*kept, replace(moment, change=None))


class Room(NamedTuple):
    moments: int  # that are kept at most
    nbytes: int  # that they have at most


def room(state: SessionState, spec: ModelSpec) -> Room:
    """For the past of such a state."""
    near, far = (state.changed_bytes(n, spec.segment) for n in (1, 1 + math.ceil(APART_S / spec.segment_s)))
    dense = max(LEAST, min(DENSE, MOST_BYTES // near))
    sparse = max(0, min(int(KEPT_S / APART_S), (MOST_BYTES - dense * near) // far))
    return Room(dense + sparse, state.nbytes + dense * near + sparse * far)


def _thinned(moments: tuple[Moment, ...], most: int) -> tuple[Moment, ...]:
    """With one that is new: the one that leaves the dense part may go, and the oldest if they are many."""
    i = len(moments) - 1 - DENSE
    if i > 0 and moments[i].position_s < moments[i - 1].position_s + APART_S:
        moments = (*moments[:i], *moments[i + 1 :])
    oldest_s = moments[-1].position_s - KEPT_S
    while len(moments) > most or (len(moments) > DENSE and moments[0].position_s < oldest_s):
        moments = moments[1:]
    return moments
