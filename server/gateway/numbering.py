"""How far a session's numbers and its media time have come, so that the next worker can continue them.

A browser treats a timestamp that goes back as an error, and a receipt must name a frame that is still to
come. Workers count as clients do; this remembers what they said. It has no clock of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from engine.types import SessionInfo
from server.worker.base import Numbers
from server.worker.hosting.leases import SILENT_S, STOP_S
from server.worker.messages.events import Packet, SegmentStats

RATE = 90_000
AHEAD_90K = RATE // 2  # more than a network delays a packet
RECENT_S = 300.0  # what was steered before is not steered again, see clients.steer.lost
MOST_S = SILENT_S + STOP_S + 2.0  # a worker generates nothing after that time without its gateway


class SessionProgress:
    """Of one session."""

    def __init__(self) -> None:
        self.begun = -1  # the latest segment of which viewers have been shown something
        self._next = (0, 0, 0)  # the lowest epoch, segment and frame that no client has seen
        self._last_90k, self._last_s = 0, 0.0  # the last packet, and when it left
        self._apart, self._apart_s = -1, 0.0  # the first frame that only this copy may have, and as of when

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

    def parted(self, now_s: float, frame: int | None = None) -> None:
        """As of this frame (None: the next one) it goes on here, claimed or from a snapshot: another gateway
        may go on with another copy."""
        if self._apart < 0 or now_s - self._apart_s > RECENT_S:
            self._apart = self._next[2] if frame is None else frame
        self._apart_s = now_s

    def apart(self, frames: Iterable[int | None]) -> tuple[int, ...]:
        """The first frame that another copy does not have, and the first one after all that this one has;
        `frames` are named by its receipts. Empty: there is none."""
        after = max(self._next[2], *(frame + 1 for frame in frames if frame is not None), 0)
        return (self._apart, after) if 0 <= self._apart < after else ()

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
