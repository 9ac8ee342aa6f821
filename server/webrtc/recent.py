"""The last minute of a session, as it was sent: what a clip is made of, without a second encoding.

Bounded in frames and bytes; what is too old goes, a whole group of pictures at a time. It knows no files.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

KEPT_S = 60.0
KEYFRAME_EVERY_S = 10.0  # so that a clip can start close to where it is asked for
MAX_BYTES = 48 * 1024 * 1024
CLOCK_RATE = 90_000


class Frame(NamedTuple):
    """One encoded frame of a rendition, whole. H.264 is in Annex B form."""

    rendition: str
    pts_90k: int
    keyframe: bool
    data: bytes


class Recent:
    """`add` each frame in order; frames of other renditions than the one that is kept are passed over."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._keyframe_90k = 0
        self.rendition: str | None = None

    def keep(self, rendition: str | None) -> None:
        """From now on this one, which begins at its next keyframe."""
        if rendition != self.rendition:
            self.rendition = rendition
            self._frames.clear()
            self._bytes = 0

    def add(self, frame: Frame) -> bool:
        """Whether a keyframe should be asked for."""
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
        """The last `seconds`, starting at the keyframe before them; all that is kept if it is less."""
        if not self._frames:
            return []
        from_90k = self._frames[-1].pts_90k - seconds * CLOCK_RATE
        frames = list(self._frames)
        starts = [i for i, frame in enumerate(frames) if frame.keyframe]
        begin = max((i for i in starts if frames[i].pts_90k <= from_90k), default=starts[0])
        return frames[begin:]

    def _forget(self, now_90k: int) -> None:
        """The oldest group, as long as the next one still begins before the time that is kept."""
        while True:
            second = next((i for i, f in enumerate(self._frames) if i and f.keyframe), None)
            if second is None or self._frames[second].pts_90k > now_90k - KEPT_S * CLOCK_RATE:
                return
            for _ in range(second):
                self._bytes -= len(self._frames.popleft().data)
