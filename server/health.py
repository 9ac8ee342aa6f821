"""Whether the worker still works: what it says of its device, and what its silence says.

A worker tells of a device call that does not come back (Hangs). One that is frozen altogether can't: it is
noticed by a watched session that does not move while nothing at all is heard. Pure but for its own figures.
"""

from __future__ import annotations

from engine.types import Hangs


class Health:
    """Of the worker that runs now; `started` when another one does."""

    def __init__(self, now_s: float) -> None:
        self._heard_s = now_s
        self._hangs_s: float | None = None  # since when a call of the device has been out
        self.hangs_total = 0

    def started(self, now_s: float) -> None:
        self._heard_s, self._hangs_s = now_s, None

    def heard(self, now_s: float) -> None:
        """Anything."""
        self._heard_s = now_s

    def told(self, event: Hangs, now_s: float) -> None:
        if event.for_s is None:
            self._hangs_s = None
            return
        if self._hangs_s is None:
            self.hangs_total += 1
            self._hangs_s = now_s - event.for_s

    def fault(self, now_s: float) -> str | None:
        """Why nobody should be sent here now."""
        if self._hangs_s is None:
            return None
        return f"a call of the device has not come back for {now_s - self._hangs_s:.0f} s"

    def lasting(self, now_s: float, limit_s: float, *, stalled: bool) -> str | None:
        """Why the worker should be replaced; `stalled`: a watched session does not move."""
        if self._hangs_s is not None and now_s - self._hangs_s > limit_s:
            return f"a call of the device did not come back in {limit_s:.0f} s"
        if stalled and now_s - self._heard_s > limit_s:
            return f"the worker said nothing for {limit_s:.0f} s"
        return None
