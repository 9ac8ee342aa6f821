"""Openings from a video wait here until the device thread has taken the video in, one segment per turn.

The result is the snapshot of a session that has just shown the video, so everything after it (log, replay,
failover) is what it is for any snapshot. Sockets and files are unknown here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

from engine.errors import BackendError, Full, InvalidInput, PsistreamError
from engine.runtime.segment.continuing import after_video, check_video
from engine.runtime.segment.generator import Generator
from engine.runtime.state import snapshot
from engine.runtime.state.change import as_prompts
from engine.runtime.state.snapshot import Saved
from engine.runtime.state.state import SessionState
from engine.types import OpenSession, SessionClosed

MOST = 2  # videos at once: one of a full-size model has 74 MB


class VideoOpenings:
    """`open_next` on the device thread, the others with the engine's `lock` held. A session waits until it is
    open, so that it can be closed at any moment."""

    def __init__(self, generator: Generator, fingerprint: str, lock: AbstractContextManager[object]) -> None:
        self._generator, self._fingerprint, self._lock = generator, fingerprint, lock
        self._waiting: deque[OpenSession] = deque()
        self._made: tuple[OpenSession, OpenSession] | None = None  # what waits, and opens
        self._work: Iterator[SessionState] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, session: str) -> bool:
        return any(command.session == session for command in self._waiting)

    def add(self, command: OpenSession) -> None:
        """Raises InvalidInput for a video that this model cannot start from, Full while others wait."""
        assert command.video is not None
        check_video(command.video, self._generator.spec)
        if command.prompt is None or command.seed is None:
            raise InvalidInput("prompt is missing: a new video needs a prompt and a seed", field="prompt")
        if len(self._waiting) >= MOST:
            raise Full(f"{MOST} videos are being taken in: try again in a moment")
        self._waiting.append(command)

    def drop(self, session: str) -> bool:
        """Whether it was waiting."""
        found = session in self
        self._waiting = deque(c for c in self._waiting if c.session != session)
        return found

    def still(self, command: OpenSession) -> bool:
        """Whether a session may be opened: not one that has waited here and was closed. If it has waited, it
        does no more."""
        if self._made is None or command is not self._made[1]:
            return True
        command, self._made = self._made[0], None
        return self._take(command)

    def open_next(self, open_session: Callable[..., None], emit: Callable[[SessionClosed], None]) -> None:
        """A segment's work, and the opening after the last one, or why there is none."""
        if (done := self._step()) is None:
            return
        command, opening, error = done
        self._made = command, opening
        try:
            if error is not None:
                raise error
            open_session(opening, promised=True)
        except PsistreamError as e:
            with self._lock:
                ended = self._made is None or self._take(command)
            if ended:
                emit(SessionClosed(command.session, e.code, e.message, e.field))
        self._made = None

    def _take(self, command: OpenSession) -> bool:
        """Whether it was waiting. It does no more."""
        found = any(each is command for each in self._waiting)
        self._waiting = deque(each for each in self._waiting if each is not command)
        return found

    def _step(self) -> tuple[OpenSession, OpenSession, InvalidInput | BackendError | None] | None:
        """A segment's work on the first video. Returns its command once it is finished, the same with a
        snapshot in place of the video, and the error that ended it."""
        with self._lock:
            command = self._waiting[0] if self._waiting else None
        if command is None:
            self._work = None
            return None
        assert command.video is not None
        assert command.seed is not None
        prompts = as_prompts(command.prompt or "")
        if self._work is None:
            self._work = after_video(self._generator, command.video, prompts, command.seed)
            self._of, self._latest = command, SessionState.zeros(self._generator.spec)
        if self._of is not command:  # the one before was dropped
            self._work = None
            return None
        try:
            self._latest = next(self._work)
            return None
        except StopIteration:
            error: InvalidInput | BackendError | None = None
        except (InvalidInput, BackendError) as found:
            error = found
        self._work = None
        saved = Saved(self._latest, prompts, None)
        data = snapshot.save(self._generator.spec, self._fingerprint, saved)
        return command, replace(command, prompt=None, seed=None, video=None, snapshot=data), error
