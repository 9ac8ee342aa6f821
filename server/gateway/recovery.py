"""Recovery records: what the gateway keeps to restore a session in another worker.

A record holds a snapshot and the controls since. A snapshot contains what was on the screen when it was
requested, or shortly after: it says which segment. So a control is kept until there is a snapshot that
contains the control's first segment, at the latest one that is requested after that was shown. It knows
neither workers nor clocks. Everything stored here is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.types import Action, Control, OpenSession, Pause, Receipt, Resume
from server.worker.messages.events import SegmentStats

MAX_CONTROLS = 64
SNAPSHOT_AFTER = 16  # after this many shown controls the next snapshot is taken early
LATEST_COUNTS = ((Action,), (Pause, Resume))  # only the latest control of each group matters


@dataclass
class _Kept:
    control: Control
    segment: int | None = None  # the first segment that shows it, once known
    shown: bool = False
    asked: bool = False  # shown before the latest snapshot was requested

    def is_in(self, segment: int) -> bool:
        """Whether what contains this segment contains its effect."""
        return self.segment is not None and self.segment <= segment


class RecoveryRecord:
    """The record of one session. `opening` is how it was opened; it is used until there is a snapshot."""

    def __init__(self, opening: OpenSession) -> None:
        self._opening = replace(opening, session="")
        self._snapshot: bytes | None = None
        self._kept: dict[str, _Kept] = {}
        self.changed = True  # since the latest snapshot was requested
        self.asked_s: float | None = None  # when the pending snapshot was requested
        self.taken_s = float("-inf")

    def __len__(self) -> int:
        """The number of controls that the snapshot does not contain."""
        return len(self._kept)

    # ---- what happened ----

    def submitted(self, control: Control) -> None:
        """Add a control. On overflow the oldest one that has been shown is dropped, or else the oldest."""
        for kinds in LATEST_COUNTS:
            if isinstance(control.body, kinds):
                old = [name for name, k in self._kept.items() if isinstance(k.control.body, kinds)]
                for name in old:
                    del self._kept[name]
        if len(self._kept) >= MAX_CONTROLS:
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
        """A segment has started to play."""
        self.changed = True
        for kept in self._kept.values():
            kept.shown = kept.shown or (kept.segment is not None and kept.segment <= stats.segment)

    # ---- snapshots ----

    def due(self, now_s: float, every_s: float) -> bool:
        """Whether to request a snapshot now."""
        if not self.changed or self.asked_s is not None:
            return False
        busy = sum(kept.shown for kept in self._kept.values()) >= SNAPSHOT_AFTER
        return busy or now_s - self.taken_s >= every_s

    def asked(self, now_s: float) -> None:
        self.asked_s, self.changed = now_s, False
        for kept in self._kept.values():
            kept.asked = kept.shown

    def taken(self, snapshot: bytes | None, now_s: float, segment: int = -1) -> None:
        """Store the requested snapshot; None if there was none. It contains all segments up to `segment`, as
        far as the worker says so."""
        self.asked_s, self.taken_s = None, now_s
        if snapshot is not None:
            self._snapshot = snapshot
            self._kept = {n: k for n, k in self._kept.items() if not (k.asked or k.is_in(segment))}

    def moved(self, snapshot: bytes, segment: int, now_s: float) -> None:
        """The session continues in another worker from this snapshot, which contains all segments up to
        `segment`."""
        self._snapshot, self.taken_s = snapshot, now_s
        self._kept = {n: k for n, k in self._kept.items() if not k.is_in(segment)}

    # ---- restoring ----

    def reopening(self, session: str) -> OpenSession | None:
        """The command that opens it again. None for a fork without a snapshot of its own."""
        if self._snapshot is not None:
            return OpenSession(session, None, None, snapshot=self._snapshot)
        return None if self._opening.fork_of is not None else replace(self._opening, session=session)

    def since(self) -> list[Control]:
        """The controls to submit after reopening it, in order."""
        return [kept.control for kept in self._kept.values()]

    def reopened(self) -> None:
        """The whole record has been sent to another worker."""
        for kept in self._kept.values():
            kept.segment, kept.shown, kept.asked = None, False, False
        self.asked_s, self.changed = None, True
