"""The messages that are still to be sent to a peer. It never blocks its caller, and its size is bounded.

Video that waits too long, or takes too much memory, is dropped up to the next keyframe of each rendition.
Everything else is small and must arrive: a peer that does not accept it is disconnected. Thread-safe.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from server.worker.wire.frames import BULK, HEAD, MORE, PIECE

LATE_S = 0.5  # video that has waited longer is of no use to anybody
VIDEO_BYTES = 8 << 20
OTHER_BYTES = 8 << 20
BULK_BYTES = 1 << 30
WRITE_BYTES = 1 << 16  # urgent frames that are written together


class Overfull(Exception):
    """The peer has not accepted what was sent for far too long."""


@dataclass
class _Waiting:
    data: bytes
    rendition: str | None = None  # of video
    since_s: float = 0.0
    session: str = ""


class WireOutbox:
    """`len` is the number of waiting messages; `dropped` is the number of video frames that were not sent."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._urgent: deque[_Waiting] = deque()
        self._bulk: deque[_Waiting] = deque()
        self._begun = {0: 0, BULK: 0}  # bytes of the first message of each lane that have been sent
        self._video_bytes = self._other_bytes = self._bulk_bytes = 0
        self._broken: dict[str, bool] = {}  # renditions that wait for a keyframe: whether one was asked for
        self._bulk_of: dict[str, int] = {}  # messages of a session that wait on the bulk lane
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._bulk)

    def put(self, data: bytes, session: str = "", after: tuple[str, ...] = ()) -> None:
        """Add a message other than video. Messages larger than a piece use the bulk lane, and so do those
        that must follow a message of these sessions that waits there. Raises Overfull."""
        with self._lock:
            if len(data) > PIECE or any(each in self._bulk_of for each in after):
                self._bulk.append(_Waiting(data, session=session))
                self._bulk_of[session] = self._bulk_of.get(session, 0) + 1
                self._bulk_bytes += len(data)
            else:
                self._urgent.append(_Waiting(data))
                self._other_bytes += len(data)
            if self._other_bytes > OTHER_BYTES or self._bulk_bytes > BULK_BYTES:
                raise Overfull

    def put_video(self, data: bytes, rendition: str, *, keyframe: bool) -> bool:
        """Add a video frame. Returns False if it was dropped and a keyframe of its rendition should be
        requested."""
        with self._lock:
            now_s = self._clock()
            oldest = next((w for w in self._urgent if w.rendition is not None), None)
            late = oldest is not None and now_s - oldest.since_s > LATE_S
            if late or self._video_bytes + len(data) > VIDEO_BYTES:
                self._drop_video()
            if keyframe:
                self._broken.pop(rendition, None)
            elif rendition in self._broken:
                self.dropped += 1
                asked, self._broken[rendition] = self._broken[rendition], True
                return asked
            self._urgent.append(_Waiting(data, rendition, now_s))
            self._video_bytes += len(data)
            return True

    def await_keyframe(self, rendition: str) -> None:
        """Drop this rendition's frames up to its next keyframe, since the peer has none of it."""
        with self._lock:
            self._broken.setdefault(rendition, False)

    def forget(self, session: str) -> None:
        """A session has ended: none of its renditions waits for a keyframe any more."""
        with self._lock:
            for name in [name for name in self._broken if name.startswith(f"{session} ")]:
                del self._broken[name]

    def next(self) -> bytes:
        """The bytes to write now; empty if nothing waits."""
        with self._lock:
            chunks: list[bytes] = []
            size = 0
            while self._urgent and size < WRITE_BYTES:
                chunks.append(self._cut(self._urgent, 0))
                size += len(chunks[-1])
            if not chunks and self._bulk:
                chunks.append(self._cut(self._bulk, BULK))
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _cut(self, lane: deque[_Waiting], flags: int) -> bytes:
        """The next frame of this lane."""
        first, begun = lane[0], self._begun[flags]
        piece = first.data[begun : begun + PIECE]
        begun += len(piece)
        more = begun < len(first.data)
        self._begun[flags] = begun if more else 0
        if not more:
            lane.popleft()
            self._gone(first, flags)
        return len(piece).to_bytes(HEAD - 1, "big") + bytes([flags | (MORE if more else 0)]) + piece

    def _gone(self, message: _Waiting, flags: int) -> None:
        if flags:
            self._bulk_bytes -= len(message.data)
            self._bulk_of[message.session] -= 1
            if not self._bulk_of[message.session]:
                del self._bulk_of[message.session]
        elif message.rendition is not None:
            self._video_bytes -= len(message.data)
        else:
            self._other_bytes -= len(message.data)

    def _drop_video(self) -> None:
        """Drop everything that waits, except for the rest of a frame that has been sent in part."""
        kept: deque[_Waiting] = deque()
        for message in self._urgent:
            if message.rendition is None or (not kept and message is self._urgent[0] and self._begun[0]):
                kept.append(message)
            else:
                self._broken.setdefault(message.rendition, False)
                self._video_bytes -= len(message.data)
                self.dropped += 1
        self._urgent = kept
