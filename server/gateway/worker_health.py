"""Whether the worker still works: what it says of its device, and what its silence says.

A worker tells of a device call that does not come back (Hung), and twice a second that it lives (Alive); one
that is frozen falls silent, whoever watches. Pure but for its own figures.
"""

from __future__ import annotations

from server.worker.messages import Hung

SILENT_S = 3.0  # six signs of life are missing: a busy machine may delay a process for a second or two
ATTENTIVE_S = 2.0  # who listens every second and comes later than this was away itself


class Health:
    """Of the worker that runs now; `started` when another one does."""

    def __init__(self, now_s: float) -> None:
        self.hangs_total = 0
        self.started(now_s)

    def started(self, now_s: float) -> None:
        self._listened_s, self._silent_s = now_s, 0.0
        self._news_s = now_s  # when it last said something of its sessions
        self._hangs_s: float | None = None  # since when a call of the device has been out

    def alive(self) -> None:
        """It said anything."""
        self._silent_s = 0.0

    def news(self, now_s: float) -> None:
        """It said something beyond that it lives."""
        self._news_s = now_s

    def listened(self, now_s: float) -> None:
        """To be called every second, after what had arrived was heard. Time in which we did not listen, as
        this process was stopped or its event loop was busy, is no silence of the worker's."""
        self._silent_s += min(now_s - self._listened_s, ATTENTIVE_S)
        self._listened_s = now_s

    def told(self, event: Hung, now_s: float) -> None:
        if event.for_s is None:
            self._hangs_s = None
            return
        if self._hangs_s is None:
            self.hangs_total += 1
            self._hangs_s = now_s - event.for_s

    @property
    def silence(self) -> str | None:
        """Why no answer is to be expected now."""
        return (
            f"the worker has said nothing for {self._silent_s:.0f} s" if self._silent_s > SILENT_S else None
        )

    def fault(self, now_s: float) -> str | None:
        """Why nobody should be sent here now."""
        if self.silence is not None or self._hangs_s is None:
            return self.silence
        return f"a call of the device has not come back for {now_s - self._hangs_s:.0f} s"

    def left_s(self, now_s: float, limit_s: float) -> float:
        """For how long a worker with a fault is waited for still; see `lasting`."""
        silent_s = max(limit_s, SILENT_S) - self._silent_s
        hangs_s = limit_s if self._hangs_s is None else limit_s - (now_s - self._hangs_s)
        return max(0.0, min(silent_s, hangs_s))

    def lasting(self, now_s: float, limit_s: float, *, stalled: bool) -> str | None:
        """Why the worker should be replaced; `stalled`: a watched session does not move."""
        if self._silent_s > max(limit_s, SILENT_S):
            return f"the worker said nothing for {limit_s:.0f} s"
        if self._hangs_s is not None and now_s - self._hangs_s > limit_s:
            return f"a call of the device did not come back in {limit_s:.0f} s"
        if stalled and now_s - self._news_s > limit_s:
            return f"the worker did nothing for {limit_s:.0f} s"
        return None
