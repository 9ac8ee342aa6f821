"""One media clock for a session's viewers, although each worker that plays it begins at zero again.

A receiver takes a timestamp that goes back for a fault, or waits for hours. It knows numbers only.
"""

from __future__ import annotations

RATE = 90_000


class MediaClock:
    """Worker's pts_90k → the viewers'. After `interrupted` the next frame is where the wall clock is."""

    def __init__(self) -> None:
        self._offset: int | None = 0
        self._last, self._last_s = 0, 0.0

    def interrupted(self) -> None:
        """What comes from now on is of another clock."""
        self._offset = None

    def frame(self, pts_90k: int, now_s: float) -> int:
        """Of a frame that leaves now."""
        if self._offset is None:
            gone = max(1, round((now_s - self._last_s) * RATE))
            self._offset = self._last + gone - pts_90k if self._last_s else 0
        self._last, self._last_s = pts_90k + self._offset, now_s
        return self._last

    def place(self, pts_90k: int) -> int | None:
        """Of a frame that is announced; None while nothing has left since the interruption."""
        return None if self._offset is None else pts_90k + self._offset
