"""How far a session's numbers and its media time have come, so that the next worker can continue them.

A browser treats a timestamp that goes back as an error, and a receipt must name a frame that is still to
come. Workers count as clients do; this remembers what they said. It has no clock of its own.
"""

from __future__ import annotations

import math
from dataclasses import replace

from engine.types import SessionInfo
from server.worker.base import Numbers
from server.worker.hosting.leases import SILENT_S, STOP_S
from server.worker.messages.events import Packet, SegmentStats

RATE = 90_000
AHEAD_90K = RATE // 2  # more than a network delays a packet
MOST_S = SILENT_S + STOP_S + 2.0  # a worker generates nothing after that time without its gateway


class SessionProgress:
    """Of one session."""

    def __init__(self) -> None:
        self.begun = -1  # the latest segment of which viewers have been shown something
        self._next = (0, 0, 0)  # the lowest epoch, segment and frame that no client has seen
        self._last_90k, self._last_s = 0, 0.0  # the last packet, and when it left

    def info(self, info: SessionInfo) -> None:
        self._reached(info.epoch, info.segment, info.frame)  # an info names the next segment

    def stats(self, stats: SegmentStats, frames: int, now_s: float) -> None:
        """Figures of a segment of `frames` frames, which begins to be shown now: perhaps only at other
        gateways."""
        self.begun = max(self.begun, stats.segment)
        self._reached(stats.epoch, stats.segment + 1, stats.frame + frames)
        if stats.pts_90k > self._last_90k:
            self._last_90k, self._last_s = stats.pts_90k, now_s

    def claimed(self, segment: int, frame: int, media_90k: int, now_s: float) -> None:
        """What a worker said that has run it for another gateway: what comes next, and the media time now."""
        self._reached(0, segment, frame)
        if media_90k > self._last_90k:
            self._last_90k, self._last_s = media_90k, now_s

    def packet(self, packet: Packet, frames: int, now_s: float) -> None:
        """A packet that leaves now, of a segment of `frames` frames. The figures of a segment follow its
        first packet, and may be lost with the worker."""
        self._last_90k, self._last_s = packet.pts_90k, now_s
        if packet.segment > self.begun:
            self.begun, (_, segment, frame) = packet.segment, self._next
            more = packet.segment + 1 - segment
            self._reached(packet.epoch, segment + more, frame + more * frames)

    def continued(self, numbers: Numbers, now_s: float) -> None:
        """It continues with these, and not below."""
        self._next = numbers.epoch, numbers.segment, numbers.frame
        self._last_90k, self._last_s = numbers.media_90k, now_s

    def interrupted(self, now_s: float) -> Numbers:
        """For a worker that shows its first picture as soon as it can: the numbers that follow. Media time
        continues at the wall clock."""
        elapsed_90k = max(1, round((now_s - self._last_s) * RATE)) if self._last_s else 0
        return Numbers(*self._next, self._last_90k + elapsed_90k)

    def beyond(self, now_s: float, placed_s: float, frames: int, fps: int) -> Numbers:
        """Like `interrupted`, if viewers at other gateways may have seen more of the last worker, or still
        see it: above what it can have shown by the time that they follow. It has had the session since
        `placed_s`. A segment has `frames` frames."""
        numbers, for_s = self.interrupted(now_s), min(now_s - (self._last_s or placed_s), MOST_S)
        unseen_90k = 0 if self._last_s else round(for_s * RATE)
        segments = math.ceil(for_s * fps / frames) + 2
        return replace(
            numbers,
            segment=numbers.segment + segments,
            frame=numbers.frame + segments * frames,
            media_90k=numbers.media_90k + unseen_90k + AHEAD_90K,
        )

    def _reached(self, epoch: int, segment: int, frame: int) -> None:
        most_epoch, most_segment, most_frame = self._next
        self._next = max(most_epoch, epoch + 1), max(most_segment, segment), max(most_frame, frame)
