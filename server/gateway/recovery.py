"""What the gateway keeps of a session so that it can go on in another worker: a snapshot and what came after.

A snapshot shows the session as it was on the screen when it was asked for. A control is needed beyond it
until a snapshot is asked for after the control's first segment was shown: from then on its effect is in
there. It knows no workers and no clocks; every part of it is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.types import Action, Control, OpenSession, Pause, Receipt, Resume
from server.worker.messages import SegmentStats

MOST_CONTROLS = 64
SOON = 16  # so many controls are worth a snapshot of their own
LATEST_COUNTS = ((Action,), (Pause, Resume))  # of each of these kinds only the latest matters


@dataclass
class _Kept:
    control: Control
    segment: int | None = None  # the first that shows it, once that is told
    shown: bool = False
    asked: bool = False  # it was shown before the latest snapshot was asked for


class Keepsake:
    """Of one session. `origin` is how it was opened, for as long as there is no snapshot of it."""

    def __init__(self, origin: OpenSession) -> None:
        self._origin = replace(origin, session="")
        self._snapshot: bytes | None = None
        self._kept: dict[str, _Kept] = {}
        self.changed = True  # since the latest snapshot was asked for
        self.asked_s: float | None = None  # when a snapshot was asked for that is still awaited
        self.taken_s = float("-inf")

    def __len__(self) -> int:
        """Controls that are needed beyond the snapshot."""
        return len(self._kept)

    # ---- what happens ----

    def submitted(self, control: Control) -> None:
        """Overflow: the oldest gives way, first of those whose effect was on the screen already."""
        for kinds in LATEST_COUNTS:
            if isinstance(control.body, kinds):
                old = [name for name, k in self._kept.items() if isinstance(k.control.body, kinds)]
                for name in old:
                    del self._kept[name]
        if len(self._kept) >= MOST_CONTROLS:
            shown = (name for name, k in self._kept.items() if k.shown)
            del self._kept[next(shown, next(iter(self._kept)))]
        self._kept[control.id] = _Kept(control)
        self.changed = True

    def answered(self, receipt: Receipt) -> None:
        if receipt.status == "rejected":
            self._kept.pop(receipt.id, None)
        elif receipt.status == "applied" and (kept := self._kept.get(receipt.id)) is not None:
            kept.segment = receipt.segment

    def played(self, stats: SegmentStats) -> None:
        """A segment begins to be shown."""
        self.changed = True
        for kept in self._kept.values():
            kept.shown = kept.shown or (kept.segment is not None and kept.segment <= stats.segment)

    # ---- snapshots ----

    def due(self, now_s: float, every_s: float) -> bool:
        """Whether to ask for one now."""
        if not self.changed or self.asked_s is not None:
            return False
        busy = sum(kept.shown for kept in self._kept.values()) >= SOON
        return busy or now_s - self.taken_s >= every_s

    def asked(self, now_s: float) -> None:
        self.asked_s, self.changed = now_s, False
        for kept in self._kept.values():
            kept.asked = kept.shown

    def taken(self, snapshot: bytes | None, now_s: float) -> None:
        """The answer; None: there is none this time."""
        self.asked_s, self.taken_s = None, now_s
        if snapshot is not None:
            self._snapshot = snapshot
            self._kept = {name: kept for name, kept in self._kept.items() if not kept.asked}

    # ---- going on ----

    def again(self, session: str) -> OpenSession | None:
        """What opens it again; None where that can't be: a fork whose own snapshot has not come yet."""
        if self._snapshot is not None:
            return OpenSession(session, None, None, snapshot=self._snapshot)
        return None if self._origin.fork_of is not None else replace(self._origin, session=session)

    def since(self) -> list[Control]:
        """What is to be submitted again after that, in order."""
        for kept in self._kept.values():
            kept.segment, kept.shown, kept.asked = None, False, False
        self.asked_s, self.changed = None, True
        return [kept.control for kept in self._kept.values()]
