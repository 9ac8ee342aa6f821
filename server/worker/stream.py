"""What playout keeps of one session: the frames that wait, who watches, its encoders and its media clock.

Plain data and a queue; it starts no thread and sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.types import ByteArray, SegmentAwaited, SegmentReady
from server.worker.encoder import CLOCK_RATE, Encoder
from server.worker.standing import Standing, Upcoming


@dataclass
class Rendition:
    """One codec of a session while somebody watches it."""

    encoder: Encoder
    key_wanted: bool = True
    last_key_s: float = float("-inf")

    def key_due(self, now_s: float, gap_s: float) -> bool:
        return self.key_wanted and now_s - self.last_key_s >= gap_s


@dataclass
class Cue:
    """One frame, when it is to be shown and for how long."""

    due_s: float
    for_s: float
    index: int  # within its segment
    segment: SegmentReady

    @property
    def picture(self) -> ByteArray:
        picture: ByteArray = self.segment.frames[self.index]
        return picture


@dataclass
class Stream:
    """What playout keeps of one session. Bounded: at most `queue_segments` segments wait, the oldest go."""

    fps: int
    standing: Standing
    awaited: SegmentAwaited | None = None
    cues: list[Cue] = field(default_factory=list)
    viewers: dict[str, int] = field(default_factory=dict)
    renditions: dict[str, Rendition] = field(default_factory=dict)
    shown: Cue | None = None
    shown_s: float = float("-inf")  # when a frame was last sent
    base_s: float | None = None  # media time 0
    last_pts: int = -1
    epoch: int = 0  # what is of an older one is stale
    dropped: int = 0
    encode_ms: float = 0.0
    encode_s: list[float] = field(default_factory=list)
    state_bytes: int = 0

    @property
    def upcoming(self) -> Upcoming | None:
        """What is shown next: the first frame that waits, else the segment that is awaited."""
        if self.cues:
            segment = self.cues[0].segment
            return Upcoming(self.cues[0].due_s, segment.speed, segment.rate)
        if self.awaited is None or self.awaited.due_s is None:
            return None
        return Upcoming(self.awaited.due_s, self.awaited.speed, self.awaited.rate)

    def media_time(self, at_s: float) -> int:
        """Continuous, follows the wall clock: what a receiver's jitter buffer expects."""
        if self.base_s is None:
            self.base_s = at_s
        return round((at_s - self.base_s) * CLOCK_RATE)

    def next_pts(self, at_s: float) -> int:
        self.last_pts = max(self.media_time(at_s), self.last_pts + 1)
        return self.last_pts


def schedule(cues: list[Cue], segment: SegmentReady, fps: int, limit: int) -> tuple[list[Cue], int]:
    """The queue with this segment in it, and how many frames were dropped for want of room. Pure.

    Frames stand apart as the segment's rate says. A new epoch replaces what was to be shown from its first
    frame on."""
    kept = [c for c in cues if c.segment.epoch == segment.epoch or c.due_s < segment.due_s]
    apart_s = 1 / (fps * segment.rate)
    new = [Cue(segment.due_s + i * apart_s, apart_s, i, segment) for i in range(len(segment.frames))]
    waiting = [*kept, *new]
    excess = max(0, len(waiting) - limit * len(segment.frames))
    return waiting[excess:], excess
