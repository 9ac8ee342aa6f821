"""What playout keeps per session: queued frames, viewers, encoders, the media clock, pending receipts.

Plain data and a queue: it starts no thread and sends nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from engine.types import ByteArray, Receipt, SegmentAwaited, SegmentReady
from server.ladder import Rung
from server.worker.contexts import CLOCK_RATE
from server.worker.encoder import VideoEncoder
from server.worker.stall import StallTracker, Upcoming

PENDING_LIMIT = 64  # pending receipts per session; further ones are sent without a media time


@dataclass
class Rendition:
    """The encoding of a session in one codec at one rung, while it has viewers."""

    encoder: VideoEncoder
    rung: Rung
    key_wanted: bool = True
    skipped: int = 0  # frames since the last encoded one
    last_key_s: float = float("-inf")

    def key_due(self, now_s: float, gap_s: float) -> bool:
        return self.key_wanted and now_s - self.last_key_s >= gap_s

    def skips(self, *, keyframe: bool) -> bool:
        """Whether this rung skips the next frame."""
        self.skipped += 1
        if self.skipped < self.rung.every and not keyframe:
            return True
        self.skipped = 0
        return False


@dataclass
class Cue:
    """One queued frame: when it is shown and for how long."""

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
    """What playout keeps of one session. The queue holds `queue_segments` segments; on overflow the oldest
    frames are dropped."""

    fps: int
    stall: StallTracker
    awaited: SegmentAwaited | None = None
    cues: list[Cue] = field(default_factory=list)
    viewers: dict[str, int] = field(default_factory=dict)  # per rendition
    renditions: dict[str, Rendition] = field(default_factory=dict)
    shown: Cue | None = None
    shown_s: float = float("-inf")  # when a frame was last sent
    base_s: float | None = None  # clock time of media time 0
    last_pts: int = -1
    epoch: int = 0  # segments of older epochs are stale
    dropped: int = 0
    encode_ms: float = 0.0
    encode_s: list[float] = field(default_factory=list)
    state_bytes: int = 0

    @property
    def upcoming(self) -> Upcoming | None:
        """What is shown next: the first queued frame, or else the awaited segment."""
        if self.cues:
            segment = self.cues[0].segment
            return Upcoming(self.cues[0].due_s, segment.speed, segment.rate)
        if self.awaited is None or self.awaited.due_s is None:
            return None
        return Upcoming(self.awaited.due_s, self.awaited.speed, self.awaited.rate)

    def media_time(self, at_s: float) -> int:
        """The media time at a clock time, in 1/90000 s. It advances like the clock, as a receiver's jitter
        buffer expects."""
        if self.base_s is None:
            self.base_s = at_s
        return round((at_s - self.base_s) * CLOCK_RATE)

    def continue_media(self, media_90k: int, at_s: float) -> None:
        """The media time is `media_90k` at that moment, and no packet has an earlier one."""
        self.base_s, self.last_pts = at_s - media_90k / CLOCK_RATE, media_90k - 1

    def next_pts(self, at_s: float) -> int:
        self.last_pts = max(self.media_time(at_s), self.last_pts + 1)
        return self.last_pts


def schedule(cues: list[Cue], segment: SegmentReady, fps: int, limit: int) -> tuple[list[Cue], int]:
    """The queue with this segment added, and the number of frames that overflowed. Pure.

    The segment's rate determines the interval between its frames. A segment of a new epoch replaces the
    queued frames from its first frame on."""
    kept = [c for c in cues if c.segment.epoch == segment.epoch or c.due_s < segment.due_s]
    apart_s = 1 / (fps * segment.rate)
    new = [Cue(segment.due_s + i * apart_s, apart_s, i, segment) for i in range(len(segment.frames))]
    waiting = [*kept, *new]
    excess = max(0, len(waiting) - limit * len(segment.frames))
    return waiting[excess:], excess


@dataclass
class _Shown:
    first_frame: int = 0
    frames: int = 0
    due_s: float = 0.0
    rate: float = 1.0
    pending: list[Receipt] = field(default_factory=list)
    watched: bool = False
    paused: bool = False


class Timing:
    """Knows when each frame is shown, so that an `applied` receipt can carry its frame's media time.

    The engine emits `applied` before the segment exists. The receipt is pending here until it does, so that
    it is true and has a time. If no segment will be made soon (the session is paused or unwatched), it is
    passed on at once. Methods that return receipts return those that may be sent now. Thread-safe."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._lock = threading.Lock()
        self._sessions: dict[str, _Shown] = {}

    def segment(self, segment: SegmentReady) -> list[Receipt]:
        with self._lock:
            session = self._sessions.setdefault(segment.session, _Shown())
            session.first_frame, session.frames = segment.first_frame, len(segment.frames)
            session.due_s, session.rate = segment.due_s, segment.rate
            pending, session.pending = session.pending, []
            end = session.first_frame + session.frames
            for receipt in pending:
                if receipt.frame is not None and receipt.frame >= end:
                    session.pending.append(receipt)
            return [receipt for receipt in pending if receipt not in session.pending]

    def applied(self, receipt: Receipt) -> list[Receipt]:
        with self._lock:
            session = self._sessions.setdefault(receipt.session, _Shown())
            to_come = receipt.frame is not None and receipt.frame >= session.first_frame + session.frames
            running = session.watched and not session.paused
            if to_come and running and len(session.pending) < PENDING_LIMIT:
                session.pending.append(receipt)
                return []
            return [receipt]

    def set_running(
        self, name: str, *, watched: bool | None = None, paused: bool | None = None
    ) -> list[Receipt]:
        with self._lock:
            session = self._sessions.setdefault(name, _Shown())
            session.watched = session.watched if watched is None else watched
            session.paused = session.paused if paused is None else paused
            if session.watched and not session.paused:
                return []
            pending, session.pending = session.pending, []
            return pending

    def due_s(self, receipt: Receipt) -> float | None:
        with self._lock:
            session = self._sessions.get(receipt.session)
            if session is None or receipt.frame is None:
                return None
            ahead = receipt.frame - session.first_frame
            if not 0 <= ahead < session.frames:
                return None
            return session.due_s + ahead / (self._fps * session.rate)

    def forget(self, name: str) -> list[Receipt]:
        with self._lock:
            session = self._sessions.pop(name, None)
            return session.pending if session else []
