"""Whether the worker still works: what it reports of its device, and how long it has been unresponsive.

A worker reports a device call that does not return (Hung), and twice a second that it is alive (Alive); one
that is frozen sends nothing, whether or not anybody watches. Pure but for its own figures.
"""

from __future__ import annotations

from server.worker.messages import Hung

UNRESPONSIVE_S = 3.0  # six heartbeats are missing: a busy machine may delay a process for a second or two
ATTENTIVE_S = 2.0  # a check that comes later than this was itself delayed


class Health:
    """Of the worker that runs now; call `started` when another one does."""

    def __init__(self, now_s: float) -> None:
        self.started(now_s)

    def started(self, now_s: float) -> None:
        self._listened_s, self._silent_s = now_s, 0.0
        self._news_s = now_s  # when it last reported something of its sessions
        self._hung_since_s: float | None = None

    def alive(self) -> None:
        """It sent anything."""
        self._silent_s = 0.0

    def news(self, now_s: float) -> None:
        """It sent more than a heartbeat."""
        self._news_s = now_s

    def listened(self, now_s: float) -> None:
        """To be called every second, after what had arrived was handled. Time in which this process was
        stopped or its event loop was busy does not count against the worker."""
        self._silent_s += min(now_s - self._listened_s, ATTENTIVE_S)
        self._listened_s = now_s

    def hang(self, event: Hung, now_s: float) -> bool:
        """Whether a new hang begins with this report."""
        if event.for_s is None:
            self._hung_since_s = None
            return False
        if self._hung_since_s is not None:
            return False
        self._hung_since_s = now_s - event.for_s
        return True

    @property
    def unresponsive(self) -> str | None:
        """Why no answer is to be expected now."""
        if self._silent_s <= UNRESPONSIVE_S:
            return None
        return f"the worker has not responded for {self._silent_s:.0f} s"

    def fault(self, now_s: float) -> str | None:
        """Why no new client should be sent here now."""
        if self.unresponsive is not None or self._hung_since_s is None:
            return self.unresponsive
        return f"a call of the device has not returned for {now_s - self._hung_since_s:.0f} s"

    def left_s(self, now_s: float, limit_s: float) -> float:
        """How long a worker with a fault is still waited for; see `hopeless`."""
        silent_s = max(limit_s, UNRESPONSIVE_S) - self._silent_s
        hung_s = limit_s if self._hung_since_s is None else limit_s - (now_s - self._hung_since_s)
        return max(0.0, min(silent_s, hung_s))

    def hopeless(self, now_s: float, limit_s: float, *, overdue: bool) -> str | None:
        """Why the worker should be replaced. `overdue`: a watched session does not move."""
        if self._silent_s > max(limit_s, UNRESPONSIVE_S):
            return f"the worker did not respond for {limit_s:.0f} s"
        if self._hung_since_s is not None and now_s - self._hung_since_s > limit_s:
            return f"a call of the device did not return in {limit_s:.0f} s"
        if overdue and now_s - self._news_s > limit_s:
            return f"the worker made nothing for {limit_s:.0f} s"
        return None
