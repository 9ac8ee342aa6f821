"""Openings from a video wait here until the device thread has taken the video in, one segment per turn.

The result is the snapshot of a session that has just shown the video, so everything after it (log, replay,
failover) is what it is for any snapshot. Sockets and files are unknown here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
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
    """`add` and `drop` with the engine's lock held, `open_next` on the device thread without it."""

    def __init__(self, generator: Generator, fingerprint: str) -> None:
        self._generator, self._fingerprint = generator, fingerprint
        self._waiting: deque[OpenSession] = deque()
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

    def open_next(self, open_session: Callable[..., None], emit: Callable[[SessionClosed], None]) -> None:
        """A segment's work, and the opening after the last one, or why there is none."""
        if (done := self._step()) is None:
            return
        command, error = done
        try:
            if error is not None:
                raise error
            open_session(command, promised=True)
        except PsistreamError as e:
            emit(SessionClosed(command.session, e.code, e.message, e.field))

    def _step(self) -> tuple[OpenSession, InvalidInput | BackendError | None] | None:
        """A segment's work on the first video. Returns its opening once it is finished, with a snapshot in
        place of the video, or with the error that ended it."""
        if not self._waiting:
            self._work = None
            return None
        command = self._waiting[0]
        assert command.video is not None
        assert command.seed is not None
        prompts = as_prompts(command.prompt or "")
        if self._work is None:
            self._work = after_video(self._generator, command.video, prompts, command.seed)
            self._of, self._latest = command.session, SessionState.zeros(self._generator.spec)
        if self._of != command.session:  # the one before was dropped
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
        self.drop(command.session)
        saved = Saved(self._latest, prompts, None)
        data = snapshot.save(self._generator.spec, self._fingerprint, saved)
        return replace(command, prompt=None, seed=None, video=None, snapshot=data), error
