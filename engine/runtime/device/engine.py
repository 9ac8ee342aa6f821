"""Many sessions on one device: one thread that schedules, runs and publishes, turn by turn.

Other threads only leave messages (open, submit, set_watched, close_session). Every event goes to the sink, on
the device thread. The lock is held for plain bookkeeping only: no device call, and no copy of a session's
arrays. Sockets, codecs and event loops are unknown here, and the model is a Backend.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable

from engine.backends.base import Backend
from engine.config import RuntimeConfig
from engine.errors import InvalidInput, Unavailable, UnknownSession
from engine.runtime.device.admission import Admission
from engine.runtime.device.costs import Clock, Costs
from engine.runtime.device.faults import INTERNAL, fault_of
from engine.runtime.device.remeasuring import Remeasurement
from engine.runtime.device.scheduler import NextStage, SegmentStage, next_wake, pick
from engine.runtime.device.turns import InProgress, TurnRunner
from engine.runtime.device.video_openings import VideoOpenings
from engine.runtime.device.warmup import warm_up
from engine.runtime.segment.generator import Generator
from engine.runtime.session.session import Export, Session
from engine.runtime.state.opening import forked, opened
from engine.runtime.state.state import SessionState
from engine.types import Control, OpenSession, Receipt, RuntimeEvent, SessionClosed

log = logging.getLogger(__name__)
JOIN_S = 5.0  # close() does not wait longer for a hung device call


class Engine:
    """`start` runs it in a thread of its own; tests and offline use call `step` instead. The backend belongs
    to the caller, who closes it. If the thread fails, it calls `on_fault` first and then ends all sessions
    with `internal`."""

    def __init__(
        self,
        backend: Backend,
        config: RuntimeConfig,
        sink: Callable[[RuntimeEvent], None],
        clock: Clock = time.monotonic,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        self.backend = backend
        self.config = config
        self._sink = sink
        self._clock = clock
        self._on_fault = on_fault
        self._generator = Generator(backend, config.context_noise)
        self._costs = Costs(clock, backend.spec.calls)
        self._turns = TurnRunner(self._generator, self._costs, config.max_batch, clock)
        self._admission = Admission(backend.spec, config, self._costs)
        self._remeasurement = Remeasurement(self._generator, self._costs, self._admission, clock)
        # it guards everything below, and inboxes and timelines of sessions
        self._changed = threading.Condition()
        self._videos = VideoOpenings(self._generator, backend.fingerprint, self._changed)
        self._sessions: dict[str, Session] = {}
        self._outbox: deque[RuntimeEvent] = deque()  # to be emitted on the device thread
        self._woken = self._stopping = False
        self._thread: threading.Thread | None = None

    # ---- life ----

    def warm_up(self) -> float:
        """Measures the times of segments and batches. Returns the seconds of a usual segment. Call before
        `start`. Raises BackendError."""
        measured = warm_up(self._generator, self._costs, self.config, self._clock)
        self._turns.limits = measured.limits
        self._admission.measure(measured.limits)
        self._remeasurement.start(measured)
        return measured.usual_s

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="psistream-device", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all sessions and the thread, even in a segment. Idempotent. Not callable from the sink."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is None:
            self._end_all()
        elif self._thread.is_alive():
            self._thread.join(JOIN_S)
            if self._thread.is_alive():
                log.error("the device thread hangs in the backend and is abandoned")

    # ---- messages from any thread ----

    def open(self, command: OpenSession, *, promised: bool = False, not_before_s: float = 0.0) -> None:
        """`promised`: the session had its place on another engine. `not_before_s`: nothing is shown earlier.
        Raises Full, InvalidInput, Unavailable, UnknownSession."""
        if command.snapshot is not None and command.fork_of is not None:
            raise InvalidInput("snapshot and fork_of exclude each other: give one", field="snapshot")
        spec, usual_s = self.backend.spec, self._remeasurement.usual_s
        about = self.backend.fingerprint, self.backend.name
        opening = opened(command, spec, about[0]) if command.is_new else None
        with self._changed:
            if not self._videos.still(command):
                return
            if self._stopping:
                raise Unavailable("the engine is closing")
            if command.session in self._sessions or command.session in self._videos:
                raise InvalidInput(f"session {command.session!r} is open already", field="session")
            if not promised:
                self._admission.admit(self._sessions.values(), self._clock(), self._turns.out_of_memory_s)
            if command.video is not None:
                self._videos.add(command)
                self._notify()
                return
            if opening is None:
                source = self._sessions.get(str(command.fork_of))
                if source is None:
                    raise UnknownSession(f"fork_of: no session {command.fork_of!r}", field="fork_of")
                opening = forked(command, spec, source.timeline.opening_at(command.rewind_s, self._clock()))
            session = Session(command, opening, spec, self.config, self._clock(), usual_s, *about)
            session.timeline.not_before_s = max(session.timeline.not_before_s, not_before_s)
            self._sessions[command.session] = session
            self._outbox.append(session.info())
            self._notify()

    def submit(self, session: str, control: Control) -> None:
        """Queue a control; its receipt comes through the sink. Overflow: see Inbox. Raises UnknownSession."""
        with self._changed:
            if session not in self._sessions:
                raise UnknownSession(f"no session {session!r}", field="session")
            answers = self._sessions[session].inbox.offer(control)
            if len(self._outbox) < 4 * self.config.inbox * self.config.max_sessions:
                self._outbox.extend(answers)
            elif answers:  # the client sends faster than the device thread can answer
                log.warning("session %s: receipts dropped, its client sends too fast", session)
            self._notify()

    def take(self, session: str, what: str, rewind_s: float = 0.0) -> Export:
        """See Session.export. Holds no lock, so neither the device nor other sessions wait for it. Raises
        UnknownSession, Unavailable."""
        found = self._sessions.get(session)
        if found is None:
            raise UnknownSession(f"no session {session!r}", field="session")
        return found.export(what, self._clock(), rewind_s)

    def set_watched(self, session: str, watched: bool, *, throttled: bool = False) -> None:
        """An unwatched session generates until a grace period is over; a `throttled` one only completes the
        segment in progress. Unknown sessions are ignored."""
        with self._changed:
            found = self._sessions.get(session)
            if found is not None and (found.watched != watched or throttled):
                found.watched = watched
                found.unwatched_since_s = -math.inf if throttled else self._clock()
                self._notify()

    def close_session(self, session: str) -> None:
        """Its place is free at once, and its segment in progress is dropped. Unknown sessions are ignored."""
        with self._changed:
            if session in self._sessions:
                self._remove(self._sessions[session], "closed", "the session was closed")
            elif self._videos.drop(session):
                self._outbox.append(SessionClosed(session, "closed", "the session was closed"))
            self._notify()

    @property
    def state_bytes(self) -> int:
        """Size of one session's state in bytes."""
        return SessionState.zeros(self.backend.spec).nbytes

    @property
    def busy_s(self) -> float:
        """Total seconds of device work."""
        return self._costs.busy_s

    def hangs_for_s(self, now_s: float) -> float | None:
        """How long the current device call has been running, if it has hung: see Costs.hangs_for_s."""
        return self._costs.hangs_for_s(now_s, self.backend.spec.segment_s)

    # ---- the device thread ----

    def step(self) -> float | None:
        """One turn: schedule → run → publish. Returns when to take the next one; None: at a change."""
        self._videos.open_next(self.open, self._emit)
        now_s, busy_s = self._clock(), self.busy_s
        sessions = self._apply_controls()
        self._turns.drop(lambda s: s.epoch != s.session.timeline.epoch or not self._is_open(s.session))
        idle = {name: s for name, s in sessions.items() if name not in self._turns}
        candidates = [c for s in idle.values() if (c := s.candidate(now_s)) is not None]
        for awaited in filter(None, [s.awaited(now_s) for s in idle.values()]):
            self._emit(awaited)
        work = [NextStage(c.session, SegmentStage.PREPARE, c.deadline_s, c.wanted_s) for c in candidates]
        turn = pick(work + self._turns.work(), now_s, self._turns.limits)
        if turn is not None:
            if turn.stage is SegmentStage.PREPARE:
                for c in candidates:
                    if c.session in turn.sessions:
                        self._turns.begin(sessions[c.session], c.deadline_s)
            done, failed = self._turns.run(turn)
            for segment in done:
                self._publish(segment)
            for session, error in failed:
                self._fail(session, error)
        self._flush()
        if turn is None:
            return now_s if self._videos else next_wake(work) or self._remeasurement.turn()
        self._remeasurement.used()
        self._admission.worked(self._clock() - now_s - (self.busy_s - busy_s), len(done))
        return now_s

    def _loop(self) -> None:
        try:
            while not self._stopping:
                wake_s = self.step()
                with self._changed:
                    if not self._woken and not self._stopping:
                        self._changed.wait(None if wake_s is None else max(0.0, wake_s - self._clock()))
        except Exception as fault:  # an internal error: report it to everybody instead of going silent
            log.exception("the device thread failed")
            if self._on_fault is not None:
                self._on_fault(fault)
            self._end_all("internal", INTERNAL)
        self._end_all()

    def _apply_controls(self) -> dict[str, Session]:
        """Apply the controls that wait in inboxes. Returns all sessions."""
        with self._changed:
            self._woken = False
            for session in self._sessions.values():
                controls = session.inbox.take(between=session.id not in self._turns)
                now_s = self._clock()
                self._outbox.extend(session.inbox.answer(session.apply(c, now_s)) for c in controls)
                self._outbox.extend(session.timeline.take_discarded())
                if controls:
                    self._outbox.append(session.info())
            sessions = dict(self._sessions)
            capacity = self._admission.report(sessions.values(), self._turns.limits, self._clock())
            self._outbox.extend([capacity] if capacity else [])
        self._flush()
        return sessions

    def _publish(self, segment: InProgress) -> None:
        session, draft = segment.session, segment.draft
        assert draft is not None
        assert draft.frames is not None
        with self._changed:  # forks read what `advance` keeps
            if not self._is_open(session):
                return
            draft.commit()
            ready_s = self._clock()
            number, first_frame = session.timeline.segment, session.timeline.frame
            shown = session.advance(ready_s, segment.started_s)
            self._outbox.extend(session.news())
        self._emit(segment.ready(number, first_frame, shown, ready_s))

    # ---- helpers ----

    def _is_open(self, session: Session) -> bool:
        return not self._stopping and self._sessions.get(session.id) is session

    def _fail(self, session: Session, error: Exception) -> None:
        with self._changed:
            if self._sessions.get(session.id) is session:
                self._remove(session, *fault_of(session.id, error))

    def _remove(self, session: Session, code: str, message: str) -> None:
        """The caller holds the lock."""
        del self._sessions[session.id]
        for control in session.inbox.take():
            text = "the session ended before this took effect"
            self._outbox.append(Receipt(session.id, control.id, "rejected", code="closed", message=text))
        self._outbox.append(SessionClosed(session.id, code, message))

    def _end_all(self, code: str = "closed", message: str = "the engine was closed") -> None:
        with self._changed:
            self._stopping = True
            for session in list(self._sessions.values()):
                self._remove(session, code, message)
        self._flush()

    def _notify(self) -> None:
        self._woken = True
        self._changed.notify_all()

    def _flush(self) -> None:
        while True:
            with self._changed:
                if not self._outbox:
                    return
                event = self._outbox.popleft()
            self._emit(event)

    def _emit(self, event: RuntimeEvent) -> None:
        try:
            self._sink(event)
        except Exception:  # a fault of the sink must not stop the device
            log.exception("the sink failed on %s", type(event).__name__)
