"""What a restored server has lost, and which controls of a client it is sent again.

docs/protocol.md, "When worker and gateway die together", has the rules. It sends nothing, and has no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

WITHIN_S = 300.0  # a control that is older is left alone: the video has gone on without it, and others steer
LATEST_COUNTS = ({"action"}, {"pause", "resume"})  # of each group only the latest control


class Repeatable(Protocol):
    """A control that a client has sent. `frame` is the first one that shows it; None: not applied, as far as
    is known. `settled`: no further receipt is expected."""

    @property
    def control(self) -> dict[str, Any]: ...
    @property
    def sent_s(self) -> float: ...
    @property
    def settled(self) -> bool: ...
    @property
    def frame(self) -> int | None: ...


R = TypeVar("R", bound=Repeatable)


class Losses:
    """Tells each loss of one session once."""

    def __init__(self) -> None:
        self._known: object = None
        self._ended: range | None = None

    def ended(self, closed: Mapping[str, Any]) -> None:
        """The session goes on elsewhere, without some frames if this `closed` event says so: what they showed
        is lost as of the next `session` event."""
        self._ended = _frames(closed.get("lost_frames")) or self._ended

    def news(self, state: Mapping[str, Any]) -> range | None:
        """The frames that were lost, if this `session` event is the first that tells of them."""
        ended, self._ended = self._ended, None
        told = state.get("lost_frames")
        if not told or told == self._known:
            return ended
        self._known = told
        lost = _frames(told)
        if lost is None or ended is None:
            return lost or ended
        return range(min(lost.start, ended.start), max(lost.stop, ended.stop))


def _frames(told: object) -> range | None:
    match told:
        case [int(first), int(after)]:
            return range(first, after)
    return None


def to_send_again(sent: Iterable[R], lost: range, now_s: float) -> list[R]:
    """Of controls in the order in which they were sent those that the server may not have: with the same ids,
    since it answers what it has from memory. A rewind that was done is left out: the past that it meant is
    lost too."""
    kept = list(sent)
    for group in LATEST_COUNTS:
        of_group = [each for each in kept if each.control["type"] in group]
        kept = [each for each in kept if each not in of_group[:-1]]
    return [
        each
        for each in kept
        if now_s - each.sent_s <= WITHIN_S
        and (not each.settled or (each.frame in lost and each.control["type"] != "rewind"))
    ]
