"""The inside of a worker, whether process or thread: backend, engine and playout.

Commands arrive through `handle`. Events leave through `emit`, which is called from several threads. After
WorkerLost all events are ignored: the engine has failed, and its sessions continue in another worker. It
knows nothing of processes, event loops, viewers' names or tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from engine.backends.registry import load_backend
from engine.errors import Full, PsistreamError, Unavailable
from engine.images import read_image
from engine.runtime.device.engine import Engine
from engine.runtime.segment.continuing import most_frames, read_video
from engine.types import (
    Discarded,
    OpenSession,
    Receipt,
    RuntimeEvent,
    SegmentAwaited,
    SegmentReady,
    SessionClosed,
    SessionInfo,
)
from server.config import WorkerConfig
from server.ladder import parts
from server.worker.base import Applied, Event, Numbers, Order, RestoreSession, WorkerLost, session_of
from server.worker.hardware import chosen
from server.worker.messages.commands import (
    CloseSession,
    ExportSession,
    MeasureCodec,
    RequestKeyframe,
    SetViewers,
    Stop,
    SubmitControl,
)
from server.worker.messages.events import Exported, WorkerReady
from server.worker.numbering import NO_NUMBERS, numbered, numbered_log
from server.worker.playout import Playout
from server.worker.speed import EncoderSpeed
from server.worker.stream import Timing
from server.worker.watchdog import Watchdog

Emit = Callable[[Event], None]


class WorkerCore:
    """The constructor loads the model. It raises ModelFilesError, InvalidInput or BackendError. `close` is
    idempotent."""

    def __init__(self, config: WorkerConfig, emit: Emit, clock: Callable[[], float] = time.monotonic) -> None:
        self._emit, self._clock = emit, clock
        self._backend = load_backend(config.backend, config.model, config.weights)
        spec = self._backend.spec
        try:
            self._image = None if config.image is None else read_image(config.image, spec.width, spec.height)
            self._video = None if config.video is None else read_video(config.video, spec)
            self._engine = Engine(self._backend, config.runtime, self._receive, clock, self._failed)
            segment_s = self._engine.warm_up()
            self._playout = Playout(config.media, spec.width, spec.height, spec.fps, emit, clock)
            if config.media.hardware:
                chosen()  # probing now delays no frame later
        except BaseException:
            self._backend.close()
            raise
        self._timing = Timing(spec.fps)
        self._speed = EncoderSpeed(config.media, spec.width, spec.height, spec.fps, emit)
        self._numbers: dict[str, Numbers] = {}  # first numbers of sessions that another worker ran before
        self._watchdog = Watchdog(lambda: self._engine.hangs_for_s(clock()), emit)
        self._engine.start()
        self._playout.start()
        self._watchdog.start()
        self.ready = WorkerReady(
            model=spec.name,
            backend=self._backend.name,
            height=spec.height,
            width=spec.width,
            fps=spec.fps,
            frames_per_segment=spec.frames_per_segment,
            start_frames=most_frames(spec),
            actions=spec.actions,
            state_bytes=self._engine.state_bytes,
            max_sessions=config.runtime.max_sessions,
            segment_ms=1000 * segment_s,
            fingerprint=self._backend.fingerprint,
            bitrate_bps=config.media.bitrate_bps,
            idle_share=config.runtime.idle_share,
            codecs=config.media.codecs,
        )

    def handle(self, command: Order) -> None:
        """Run a command. Its answer is an event, and so is an error that a client caused. Raises Unavailable
        if the device has failed permanently."""
        match command:
            case OpenSession():
                self._open(command)
            case RestoreSession(opening, then, starts_in_s):
                self._numbers[opening.session] = command.numbers
                if self._open(opening, promised=True, not_before_s=self._clock() + starts_in_s):
                    for further in then:
                        self.handle(further)
            case SubmitControl(session, control):
                try:
                    self._engine.submit(session, control)
                except PsistreamError as error:
                    self._emit(
                        Receipt(session, control.id, "rejected", code=error.code, message=error.message)
                    )
            case ExportSession():
                self._emit(self._exported(command))
            case MeasureCodec(codec):
                self._speed.measure(codec)
            case SetViewers(session, viewers, throttled):
                watched = any(viewers.values())
                own = {name: n for name, n in viewers.items() if parts(name)[0] in self.ready.codecs}
                if self._playout.set_viewers(session, own):  # it may have just ended
                    self._engine.set_watched(session, watched, throttled=throttled)
                    self._tell(self._timing.set_running(session, watched=watched))
            case RequestKeyframe(session, rendition):
                self._playout.request_keyframe(session, rendition)
            case CloseSession(session):
                self._engine.close_session(session)
            case Stop():
                self.close()

    def close(self) -> None:
        self._watchdog.close()
        self._engine.close()
        self._playout.close()
        self._backend.close()

    def _open(self, command: OpenSession, *, promised: bool = False, not_before_s: float = 0.0) -> bool:
        """Open a session. Returns whether it is open now."""
        session = command.session
        first = self._numbers.get(session)
        self._playout.open(session, None if first is None else (first.media_90k, not_before_s))
        own = (command.snapshot, command.fork_of, command.image, command.video)
        if all(start is None for start in own):
            command = replace(command, image=self._image, video=self._video)
        try:
            self._engine.open(command, promised=promised, not_before_s=not_before_s)
        except PsistreamError as error:
            self._playout.forget(session)
            self._numbers.pop(session, None)
            again_s = error.retry_after_s if isinstance(error, Full) else None
            self._emit(SessionClosed(session, error.code, error.message, error.field, again_s))
            if isinstance(error, Unavailable):
                raise
            return False
        return True

    def _exported(self, asked: ExportSession) -> Exported:
        try:
            data, segment, end_s = self._engine.take(asked.session, asked.what, asked.rewind_s)
        except PsistreamError as error:
            return Exported(asked.session, asked.request, None, error.code, error.message)
        now_s, first = self._clock(), self._numbers.get(asked.session, NO_NUMBERS)
        if asked.what == "log":
            data = numbered_log(data, first)
        return Exported(
            asked.session,
            asked.request,
            data,
            segment=segment + first.segment if segment >= 0 else -1,
            remaining_s=max(0.0, end_s - now_s),
            end_90k=self._playout.media_time(asked.session, max(end_s, now_s)),
        )

    def _failed(self, fault: Exception) -> None:
        """The engine itself failed. The log contains the traceback."""
        self._emit(WorkerLost(f"the device's thread failed ({type(fault).__name__})"))

    def _receive(self, event: RuntimeEvent) -> None:
        """An event of the engine, on the device thread."""
        if session := session_of(event):
            event = numbered(event, self._numbers.get(session, NO_NUMBERS))
        match event:
            case SegmentReady():
                self._playout.add(event)
                self._tell(self._timing.segment(event))
                return
            case Discarded():
                self._playout.discard(event)
                return
            case SegmentAwaited():
                self._playout.expect(event)
                return
            case Receipt(status="applied"):
                self._tell(self._timing.applied(event))
                return
            case SessionInfo(session):
                self._playout.set_state_bytes(session, event.state_bytes)
                self._tell(self._timing.set_running(session, paused=event.paused))
            case SessionClosed(session):
                self._numbers.pop(session, None)
                self._playout.forget(session)
                self._tell(self._timing.forget(session))
            case _:
                pass
        self._emit(event)

    def _tell(self, receipts: list[Receipt]) -> None:
        """Emit applied receipts, with their frame's media time if that is known."""
        for receipt in receipts:
            due_s = self._timing.due_s(receipt)
            if due_s is None:
                self._emit(receipt)
            else:
                self._emit(Applied(receipt, self._playout.media_time(receipt.session, due_s)))
