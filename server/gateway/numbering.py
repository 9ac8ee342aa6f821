"""How far a session's numbers and its media time have come, so that the next worker can continue them.

A browser treats a timestamp that goes back as an error, and a receipt must name a frame that is still to
come. Workers count as clients do; this remembers what they said. It has no clock of its own.
"""

from __future__ import annotations

from engine.types import SessionInfo
from server.worker.base import Numbers
from server.worker.messages import Packet, SegmentStats

RATE = 90_000


class SessionProgress:
    """Of one session."""

    def __init__(self) -> None:
        self._next = (0, 0, 0)  # the lowest epoch, segment and frame that no client has seen
        self._last_90k, self._last_s = 0, 0.0  # the last packet, and when it left

    def info(self, info: SessionInfo) -> None:
        self._reached(info.epoch, info.segment, info.frame)  # an info names the next segment

    def stats(self, stats: SegmentStats, frames: int) -> None:
        """Figures of a segment of `frames` frames."""
        self._reached(stats.epoch, stats.segment + 1, stats.frame + frames)

    def packet(self, packet: Packet, now_s: float) -> None:
        """A packet that leaves now."""
        self._last_90k, self._last_s = packet.pts_90k, now_s

    def interrupted(self, now_s: float) -> Numbers:
        """For a worker that shows its first picture as soon as it can. Media time continues at the wall
        clock."""
        elapsed_90k = max(1, round((now_s - self._last_s) * RATE)) if self._last_s else 0
        return Numbers(*self._next, self._last_90k + elapsed_90k)

    def _reached(self, epoch: int, segment: int, frame: int) -> None:
        most_epoch, most_segment, most_frame = self._next
        self._next = max(most_epoch, epoch + 1), max(most_segment, segment), max(most_frame, frame)
