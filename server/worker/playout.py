"""Playout: the worker's thread that releases each frame at its time and encodes it.

It encodes a frame once for each codec and rung in use. It repeats the last frame if there is no new one: in a
paused session, on a slow device, or for a viewer who joins an idle session. It drops frames that are stale or
too late and counts them. It knows nothing of models or connections.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from engine.types import Discarded, SegmentAwaited, SegmentReady
from server.config import MediaConfig
from server.ladder import parts
from server.worker.encoder import ToYuv, VideoEncoder
from server.worker.messages.events import Packet, SegmentStats, Stalled
from server.worker.stall import StallTracker
from server.worker.stream import Cue, Rendition, Stream, schedule

log = logging.getLogger(__name__)

Clock = Callable[[], float]
Emit = Callable[[Packet | SegmentStats | Stalled], None]


class Playout:
    """Thread-safe. `emit` is called on the playout thread and must not block for long."""

    def __init__(
        self, config: MediaConfig, width: int, height: int, fps: int, emit: Emit, clock: Clock
    ) -> None:
        self.config, self.fps, self._emit, self._clock = config, fps, emit, clock
        scale = config.scale(width, height)
        self.width, self.height = width * scale, height * scale
        self._to_yuv = ToYuv(scale)
        self.ladder = config.ladder(width, height, fps)
        self._streams: dict[str, Stream] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="playout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=2)

    # ---- from the worker ----

    def open(self, session: str, media: tuple[int, float] | None = None) -> None:
        """`media` continues a media clock: a media time, and when it will be (monotonic clock)."""
        with self._changed:
            now_s = self._clock()
            stream = self._streams.setdefault(session, Stream(self.fps, StallTracker(now_s, now_s)))
            if media is not None:
                stream.continue_media(*media)

    def forget(self, session: str) -> None:
        with self._changed:
            self._streams.pop(session, None)

    def add(self, segment: SegmentReady) -> None:
        with self._changed:
            stream = self._streams.get(segment.session)
            if stream is None:
                return
            if segment.epoch < stream.epoch:
                return
            stream.epoch = segment.epoch
            stream.cues, dropped = schedule(stream.cues, segment, self.fps, self.config.queue_segments)
            stream.dropped += dropped
            stream.awaited, stream.stall.heard_s = None, self._clock()
            self._changed.notify()

    def discard(self, invalid: Discarded) -> None:
        """Drop what is queued behind the segment on the screen, which plays to its end."""
        with self._changed:
            if stream := self._streams.get(invalid.session):
                stream.cues = [c for c in stream.cues if c.segment.segment <= invalid.segment]
                stream.epoch, stream.awaited = invalid.epoch, None
                self._changed.notify()

    def expect(self, awaited: SegmentAwaited) -> None:
        """A segment will be late; `awaited` says when it is expected. Valid until a segment is added."""
        with self._changed:
            if stream := self._streams.get(awaited.session):
                stream.awaited, stream.stall.heard_s = awaited, self._clock()
                self._changed.notify()

    def media_time(self, session: str, at_s: float) -> int:
        with self._changed:
            stream = self._streams.get(session)
            return stream.media_time(at_s) if stream else 0

    def set_state_bytes(self, session: str, size: int) -> None:
        with self._changed:
            if stream := self._streams.get(session):
                stream.state_bytes = size

    def set_viewers(self, session: str, viewers: dict[str, int]) -> bool:
        """Returns whether there is such a session."""
        with self._changed:
            if stream := self._streams.get(session):
                stream.viewers = {name: n for name, n in viewers.items() if n > 0}
                self._changed.notify()
            return stream is not None

    def request_keyframe(self, session: str, name: str) -> None:
        with self._changed:
            stream = self._streams.get(session)
            if stream and (rendition := stream.renditions.get(name)):
                rendition.key_wanted = True
                self._changed.notify()

    # ---- the thread ----

    def _run(self) -> None:
        while True:
            with self._changed:
                now_s = self._clock()
                news = [n for s in self._streams.items() if (n := self._news(*s, now_s))]
                turn = next((t for s in self._streams.items() if (t := self._turn(*s, now_s))), None)
                if self._stopping:
                    return
                if turn is None and not news:
                    self._changed.wait(self._pause(now_s))
                    continue
            for event in news:
                self._emit(event)
            if turn is None:
                continue
            session, stream, cue, repeat = turn
            try:
                self._show(session, stream, cue, repeat)
            except Exception:  # outermost loop: the other sessions must not be affected
                log.exception("session %s: a frame could not be encoded", session)
                stream.renditions.clear()  # a new encoder starts with a keyframe

    def _turn(self, session: str, stream: Stream, now_s: float) -> tuple[str, Stream, Cue, bool] | None:
        """The frame that this session must show now, if any, and whether it is a repetition."""
        while stream.cues and now_s - stream.cues[0].due_s > self.config.late_limit_s:
            stream.dropped += 1
            late = stream.cues.pop(0)
            if not stream.cues and stream.shown is None:
                return session, stream, late, False
        if stream.cues and stream.cues[0].due_s <= now_s:
            return session, stream, stream.cues.pop(0), False
        if stream.shown is not None and now_s >= self._still_at(stream, now_s):
            return session, stream, stream.shown, True
        return None

    def _news(self, session: str, stream: Stream, now_s: float) -> Stalled | None:
        """A message if a stall has begun, has ended or takes longer than announced; otherwise None."""
        upcoming = stream.upcoming
        since_s = stream.stall.report_at_s(upcoming)
        if since_s is None or since_s > now_s or (stream.cues and stream.cues[0].due_s <= now_s):
            return None
        return Stalled(session, stream.stall.report(upcoming, now_s))

    def _still_at(self, stream: Stream, now_s: float) -> float:
        """When to repeat the last frame: soon if a viewer needs a keyframe, otherwise occasionally."""
        if not stream.viewers or stream.shown is None:
            return float("inf")
        if stream.cues and stream.cues[0].due_s - now_s < 2 / stream.fps:
            return float("inf")  # a new frame is about to be shown
        at_s = stream.shown_s + self.config.still_after_s
        for name in stream.viewers:
            rendition = stream.renditions.get(name)
            if rendition is None:
                at_s = min(at_s, stream.shown_s + 1 / stream.fps)
            elif rendition.key_wanted:
                at_s = min(at_s, rendition.last_key_s + self.config.keyframe_gap_s)
        return at_s

    def _pause(self, now_s: float) -> float | None:
        """How many seconds the thread may sleep. None: until something changes."""
        times = [s.cues[0].due_s for s in self._streams.values() if s.cues]
        times += [self._still_at(s, now_s) for s in self._streams.values()]
        times += [t for s in self._streams.values() if (t := s.stall.report_at_s(s.upcoming)) is not None]
        soonest = min(times, default=float("inf"))
        return None if soonest == float("inf") else max(0.0005, soonest - now_s)

    def _show(self, session: str, stream: Stream, cue: Cue, repeat: bool) -> None:
        started_s = self._clock()
        pts = stream.next_pts(started_s if repeat else cue.due_s)
        stream.shown, stream.shown_s = cue, started_s
        self._encode(session, stream, cue, pts, started_s)
        if repeat:
            return
        if stream.stall.showed(cue.due_s + cue.for_s):
            self._emit(Stalled(session, None))
        stream.encode_s.append(self._clock() - started_s)
        if cue.index == 0:
            stream.encode_ms = 1000 * sum(stream.encode_s) / len(stream.encode_s)
            stream.encode_s.clear()
            self._emit(_stats(stream, cue.segment, pts))

    def _encode(self, session: str, stream: Stream, cue: Cue, pts: int, now_s: float) -> None:
        viewers = stream.viewers  # replaced as a whole, never changed
        for name in [n for n in stream.renditions if n not in viewers]:
            stream.renditions.pop(name).encoder.close()
        if not viewers:
            return
        for name in viewers:
            if name not in stream.renditions:
                stream.renditions[name] = self._rendition(name)
        frame = self._to_yuv(cue.picture)
        due = {n: r.key_due(now_s, self.config.keyframe_gap_s) for n, r in stream.renditions.items()}
        # Keyframes first: a viewer switches rungs at a keyframe, which must precede the old rung's frame.
        for name, rendition in sorted(stream.renditions.items(), key=lambda item: not due[item[0]]):
            if rendition.skips(keyframe=due[name]):
                continue
            smaller = self._to_yuv.divided(frame, rendition.rung.divide)
            encoded = rendition.encoder.encode(smaller, pts, keyframe=due[name])
            if encoded is None:
                continue
            if encoded.keyframe:
                rendition.last_key_s, rendition.key_wanted = now_s, False
            codec, rung = parts(name)
            segment = cue.segment
            self._emit(
                Packet(
                    session=session,
                    codec=codec,
                    epoch=segment.epoch,
                    segment=segment.segment,
                    frame=segment.first_frame + cue.index,
                    pts_90k=pts,
                    keyframe=encoded.keyframe,
                    data=encoded.data,
                    rung=rung,
                )
            )

    def _rendition(self, name: str) -> Rendition:
        codec, number = parts(name)
        rung = self.ladder[min(number, len(self.ladder) - 1)]
        width, height = (side // rung.divide // 2 * 2 for side in (self.width, self.height))
        fps = max(1, self.fps // rung.every)
        rate, hardware = rung.bitrate_bps, self.config.hardware
        return Rendition(VideoEncoder(codec, width, height, fps, rate, hardware=hardware), rung)


def _stats(stream: Stream, segment: SegmentReady, pts_90k: int) -> SegmentStats:
    return SegmentStats(
        session=segment.session,
        epoch=segment.epoch,
        segment=segment.segment,
        frame=segment.first_frame,
        timings_ms=segment.timings_ms,
        lead_ms=1000 * segment.lead_s,
        late_total=segment.late_total,
        dropped_frames_total=stream.dropped,
        state_bytes=stream.state_bytes,
        encode_ms=stream.encode_ms,
        speed=segment.speed,
        rate=segment.rate,
        pts_90k=pts_90k,
    )
