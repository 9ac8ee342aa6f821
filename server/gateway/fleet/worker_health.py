"""Decides whether a worker is healthy, from its reports about the device and from missing heartbeats.

A worker reports a device call that does not return (Hung), and sends a heartbeat twice a second (Alive). A
frozen worker sends nothing, whether or not anybody is watching. It has no clock: callers pass the time.
"""

from __future__ import annotations

from server.worker.messages.events import Hung

UNRESPONSIVE_S = 3.0  # six missed heartbeats; a busy machine may delay a process for a second or two
ATTENTIVE_S = 2.0  # a check that is later than this was itself delayed


class Health:
    """The health of the current worker. Call `started` when it is replaced."""

    def __init__(self, now_s: float) -> None:
        self.started(now_s)

    def started(self, now_s: float) -> None:
        self._checked_s, self._silent_s = now_s, 0.0
        self._news_s = now_s  # when it last reported something about its sessions
        self._hung_since_s: float | None = None

    def alive(self) -> None:
        """It sent something."""
        self._silent_s = 0.0

    def news(self, now_s: float) -> None:
        """It sent something other than a heartbeat."""
        self._news_s = now_s

    def checked(self, now_s: float) -> None:
        """Call it every second, after the events that had arrived were handled. Time in which this process
        was suspended or its event loop was busy does not count against the worker."""
        self._silent_s += min(now_s - self._checked_s, ATTENTIVE_S)
        self._checked_s = now_s

    def hang(self, event: Hung, now_s: float) -> bool:
        """Record a report. Returns whether it begins a new hang."""
        if event.for_s is None:
            self._hung_since_s = None
            return False
        if self._hung_since_s is not None:
            return False
        self._hung_since_s = now_s - event.for_s
        return True

    @property
    def unresponsive(self) -> str | None:
        """Why no answer can be expected now. None if the worker responds."""
        if self._silent_s <= UNRESPONSIVE_S:
            return None
        return f"the worker has not responded for {self._silent_s:.0f} s"

    def fault(self, now_s: float) -> str | None:
        """Why no new session should be opened here now. None if the worker is healthy."""
        if self.unresponsive is not None or self._hung_since_s is None:
            return self.unresponsive
        return f"a call of the device has not returned for {now_s - self._hung_since_s:.0f} s"

    def remaining_s(self, now_s: float, limit_s: float) -> float:
        """How many seconds a worker with a fault has left before it is replaced; see `must_replace`."""
        silent_s = max(limit_s, UNRESPONSIVE_S) - self._silent_s
        hung_s = limit_s if self._hung_since_s is None else limit_s - (now_s - self._hung_since_s)
        return max(0.0, min(silent_s, hung_s))

    def must_replace(self, now_s: float, limit_s: float, *, overdue: bool) -> str | None:
        """Why the worker should be replaced. None if it should not. `overdue` says that a watched session
        has shown nothing new for too long."""
        if self._silent_s > max(limit_s, UNRESPONSIVE_S):
            return f"the worker did not respond for {limit_s:.0f} s"
        if self._hung_since_s is not None and now_s - self._hung_since_s > limit_s:
            return f"a call of the device did not return in {limit_s:.0f} s"
        if overdue and now_s - self._news_s > limit_s:
            return f"the worker has reported nothing for {limit_s:.0f} s"
        return None
