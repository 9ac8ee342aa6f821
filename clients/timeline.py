"""RTP timestamps of a viewer that joins again: each connection begins anywhere, and the video goes on."""

from __future__ import annotations

RANGE = 1 << 32


class ViewerTimeline:
    """Timestamps are of 1/90000 s; those that it returns go on over all connections."""

    def __init__(self, before: ViewerTimeline | None = None) -> None:
        self.offset: int | None = None  # what the server says of this connection's timestamps
        self._origin: int | None = None  # the first timestamp of this connection
        self._shift = 0
        self.latest = 0  # of the last frame
        self._latest_s: float | None = None
        self._before = before  # that of the last connection, until this one has brought a frame

    def place(self, rtp: int, now_s: float) -> int:
        """The timestamp of a frame that this connection has brought now."""
        if self._origin is None:
            self._origin = rtp
            before, self._before = self._before, None
            if before is not None and before._latest_s is not None:  # time went on meanwhile
                self._shift = before.latest + round((now_s - before._latest_s) * 90_000) - rtp
        self.latest, self._latest_s = (rtp + self._shift) % RANGE, now_s
        return self.latest

    def decoded(self, pts: int) -> int:
        """The timestamp of a decoded frame, whose own counts from the connection's first."""
        return ((self._origin or 0) + self._shift + pts) % RANGE

    def reached(self, timestamp: int, pts_90k: int) -> bool:
        """Whether this is the timestamp of the frame at `pts_90k`, or of a later one."""
        zero = self.media_zero
        return zero is not None and (timestamp - zero - pts_90k) % RANGE < RANGE // 2

    @property
    def media_zero(self) -> int | None:
        """A frame's timestamp is this plus its pts_90k. None until the server has told."""
        return None if self.offset is None else (self.offset + self._shift) % RANGE
