"""Live HLS of one session: the H.264 rendition in fragmented MP4 (RFC 8216), for players without WebRTC.

It subscribes to the fan-out like a viewer while somebody requests the playlist. It knows nothing about HTTP.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from server.recording.mux import Fragments
from server.webrtc.fanout import Fanout, Subscription
from server.webrtc.recent import CLOCK_RATE, Frame
from server.webrtc.rtp.packetize import Payloads

SEGMENT_S = 2.0
FIRST, FIRST_S = 3, 0.7  # players want three segments to begin with (RFC 8216, 6.2.2): these are shorter
KEPT = 8  # segments; a player that is further behind starts again
IDLE_S = 20.0  # it stops when nobody has requested anything for this long


class HlsSegment(NamedTuple):
    number: int
    seconds: float
    data: bytes


class Hls:
    """Call `start` first, then `playlist`, `initial` and `segment` at any time. `close` is idempotent."""

    def __init__(self, fanout: Fanout, clock: Callable[[], float] = time.monotonic) -> None:
        self._fanout, self._clock = fanout, clock
        self._subscription = Subscription("h264", self._take)
        self._fragments: Fragments | None = None
        self._segments: deque[HlsSegment] = deque(maxlen=KEPT)
        self._next = 0
        self._begun_90k = self._asked_90k = 0
        self._ready, self._fresh = asyncio.Event(), asyncio.Event()
        self.asked_s = clock()
        self.closed = False

    @property
    def idle(self) -> bool:
        return self._clock() - self.asked_s > IDLE_S

    def start(self) -> bool:
        """Subscribe to the session. Returns False if it has ended."""
        return self._fanout.join(self._subscription)

    async def playlist(self, query: str, wait_s: float = 10.0) -> str | None:
        """The media playlist, with `query` appended to every address; None if nothing was generated in
        time.

        It waits for the next segment: Chromium requests the playlist again at once when it has loaded all
        segments, and gives up if the playlist has not changed."""
        self.asked_s = self._clock()
        try:
            async with asyncio.timeout(wait_s):
                await (self._fresh if self._ready.is_set() else self._ready).wait()
        except TimeoutError:
            if not self._ready.is_set():
                return None
        longest = math.ceil(max(SEGMENT_S, *(s.seconds for s in self._segments)))
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:7",
            f"#EXT-X-TARGETDURATION:{longest}",
            f"#EXT-X-MEDIA-SEQUENCE:{self._segments[0].number}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
            f'#EXT-X-MAP:URI="init.mp4{query}"',
        ]
        for segment in self._segments:
            lines += [f"#EXTINF:{segment.seconds:.3f},", f"{segment.number}.m4s{query}"]
        return "\n".join(lines) + "\n"

    @property
    def initial(self) -> bytes | None:
        return self._fragments.initial if self._fragments else None

    def segment(self, number: int) -> bytes | None:
        self.asked_s = self._clock()
        return next((s.data for s in self._segments if s.number == number), None)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._fanout.leave(self._subscription)
        if self._fragments is not None:
            self._fragments.close()

    def _take(self, payloads: Payloads) -> bool:
        if self.closed:
            return True
        frame = Frame("h264", payloads.timestamp, payloads.keyframe, payloads.data)
        if self._fragments is None:
            self._fragments, self._begun_90k = Fragments(frame), frame.pts_90k
        if data := self._fragments.add(frame):
            self._segments.append(
                HlsSegment(self._next, (frame.pts_90k - self._begun_90k) / CLOCK_RATE, data)
            )
            self._next, self._begun_90k = self._next + 1, frame.pts_90k
            self._fresh.set()
            self._fresh = asyncio.Event()
            if self._next >= FIRST:
                self._ready.set()
        wanted_s = SEGMENT_S if self._next >= FIRST else FIRST_S
        if frame.pts_90k - max(self._begun_90k, self._asked_90k) >= wanted_s * CLOCK_RATE:
            self._asked_90k = frame.pts_90k
            self._fanout.request_keyframe(self._subscription)
        return True
