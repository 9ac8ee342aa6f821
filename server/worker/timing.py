"""Which frame is shown when, so that an `applied` receipt can name its place on the media clock.

The engine says `applied` before the segment exists. The receipt waits here until its segment does, so that
`applied` is a fact with a time; where no segment will come soon (paused, unwatched) it doesn't wait.
Thread-safe. It knows no codecs and sends nothing itself.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from engine.types import Receipt, SegmentReady

EARLY_LIMIT = 64  # receipts that wait per session; more go out without a time


@dataclass
class _Session:
    first_frame: int = 0
    frames: int = 0
    due_s: float = 0.0
    rate: float = 1.0
    early: list[Receipt] = field(default_factory=list)
    watched: bool = False
    paused: bool = False


class Timing:
    """Every method that returns receipts hands over those that may be told now."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}

    def segment(self, segment: SegmentReady) -> list[Receipt]:
        with self._lock:
            session = self._sessions.setdefault(segment.session, _Session())
            session.first_frame, session.frames = segment.first_frame, len(segment.frames)
            session.due_s, session.rate = segment.due_s, segment.rate
            held, session.early = session.early, []
            end = session.first_frame + session.frames
            for receipt in held:
                if receipt.frame is not None and receipt.frame >= end:
                    session.early.append(receipt)
            return [receipt for receipt in held if receipt not in session.early]

    def applied(self, receipt: Receipt) -> list[Receipt]:
        with self._lock:
            session = self._sessions.setdefault(receipt.session, _Session())
            to_come = receipt.frame is not None and receipt.frame >= session.first_frame + session.frames
            running = session.watched and not session.paused
            if to_come and running and len(session.early) < EARLY_LIMIT:
                session.early.append(receipt)
                return []
            return [receipt]

    def set_running(
        self, name: str, *, watched: bool | None = None, paused: bool | None = None
    ) -> list[Receipt]:
        with self._lock:
            session = self._sessions.setdefault(name, _Session())
            session.watched = session.watched if watched is None else watched
            session.paused = session.paused if paused is None else paused
            if session.watched and not session.paused:
                return []
            held, session.early = session.early, []
            return held

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
            return session.early if session else []
