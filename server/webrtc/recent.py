"""The last minute of a session as it was sent, from which clips are made without re-encoding.

Bounded in frames and bytes; old frames are dropped one group of pictures at a time. It knows no files.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

KEPT_S = 60.0
KEYFRAME_EVERY_S = 10.0  # so that a clip can start close to the requested time
MAX_BYTES = 48 * 1024 * 1024
CLOCK_RATE = 90_000


class Frame(NamedTuple):
    """One complete encoded frame of a rendition. H.264 is in Annex B format."""

    rendition: str
    pts_90k: int
    keyframe: bool
    data: bytes


class Recent:
    """`add` each frame in order; frames of renditions other than the recorded one are ignored."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._keyframe_90k = 0
        self.rendition: str | None = None

    def keep(self, rendition: str | None) -> None:
        """Record this rendition from its next keyframe on."""
        if rendition != self.rendition:
            self.rendition = rendition
            self._frames.clear()
            self._bytes = 0

    def add(self, frame: Frame) -> bool:
        """Returns whether a keyframe should be requested."""
        if frame.rendition != self.rendition or not (self._frames or frame.keyframe):
            return False
        self._frames.append(frame)
        self._bytes += len(frame.data)
        if frame.keyframe:
            self._keyframe_90k = frame.pts_90k
            self._forget(frame.pts_90k)
        if self._bytes > MAX_BYTES:
            self.keep(None)
        wanted = frame.pts_90k - self._keyframe_90k > KEYFRAME_EVERY_S * CLOCK_RATE
        if wanted:
            self._keyframe_90k = frame.pts_90k
        return wanted

    def clip(self, seconds: float) -> list[Frame]:
        """The last `seconds`, starting at the keyframe before them; everything if less is recorded."""
        if not self._frames:
            return []
        from_90k = self._frames[-1].pts_90k - seconds * CLOCK_RATE
        frames = list(self._frames)
        starts = [i for i, frame in enumerate(frames) if frame.keyframe]
        begin = max((i for i in starts if frames[i].pts_90k <= from_90k), default=starts[0])
        return frames[begin:]

    def _forget(self, now_90k: int) -> None:
        """Drop the oldest groups that the recorded time no longer needs."""
        while True:
            second = next((i for i, f in enumerate(self._frames) if i and f.keyframe), None)
            if second is None or self._frames[second].pts_90k > now_90k - KEPT_S * CLOCK_RATE:
                return
            for _ in range(second):
                self._bytes -= len(self._frames.popleft().data)
