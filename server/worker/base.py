"""The boundary between gateway and worker: a worker takes commands and reports events.

The boundary is the same for a worker in a thread and one in another process. A worker knows nothing of HTTP,
viewers or tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.errors import (
    BackendError,
    Forbidden,
    Full,
    InvalidInput,
    ModelFilesError,
    PsistreamError,
    Unavailable,
    UnknownSession,
)
from engine.types import OpenSession, Receipt, RuntimeEvent, SessionInfo
from server.worker.messages.commands import Command
from server.worker.messages.events import Stalled, WorkerEvent, WorkerReady


@dataclass(frozen=True)
class Numbers:
    """The first numbers of a session in a worker that continues it: so clients see no number twice and none
    that goes back. `media_90k` is the media time of its first picture."""

    epoch: int = 0
    segment: int = 0
    frame: int = 0
    media_90k: int = 0


@dataclass(frozen=True)
class RestoreSession:
    """Reopens a session from another worker, and then runs the commands `then` that bring it up to date. Its
    place was promised, so it is admitted whatever capacity this worker measures. Its first picture is shown
    in `starts_in_s` seconds at the earliest: until then the other worker's segment plays. A worker that still
    has the session with a lower `epoch` drops it first."""

    opening: OpenSession
    then: tuple[Command, ...]
    starts_in_s: float = 0.0
    epoch: int = 1
    numbers: Numbers = Numbers()


@dataclass(frozen=True)
class Applied:
    """An `applied` receipt and the media time of the first frame that shows the control."""

    receipt: Receipt
    pts_90k: int


@dataclass(frozen=True)
class WorkerLost:
    """The worker ended without being told to. Its sessions can be restored from their snapshots."""

    message: str


@dataclass(frozen=True)
class Alive:
    """A heartbeat, in both directions: sent twice a second, whatever the device does."""


BEAT_S = 0.5
SESSION_ID = re.compile("[A-Za-z0-9_-]{1,64}")  # it becomes part of addresses, topics, files and keys


NOT_RUNNING = "the worker is not running; try again in a moment"
TOO_MUCH = "the worker is overloaded; try again in a moment"

Order = Command | RestoreSession | Stalled
Event = WorkerEvent | Applied | WorkerLost | Alive
OnEvent = Callable[[Event], None]  # called on the event loop; must not block


def session_of(event: Event | RuntimeEvent) -> str | None:
    """The session that an event is about; None: the worker as a whole."""
    match event:
        case Applied(receipt):
            return receipt.session
        case SessionInfo(session):
            return session
        case _:
            return getattr(event, "session", None)


class Worker(Protocol):
    async def start(self) -> WorkerReady:
        """Load the model and run one segment. Raises a PsistreamError if that fails."""
        ...

    def send(self, command: Order) -> None:
        """Never blocks. Raises Unavailable if the worker is gone or its command queue is full."""
        ...

    async def close(self) -> None:
        """Stop the worker and free the device, by force if that takes more than a second. Idempotent."""
        ...


MakeWorker = Callable[[OnEvent], Worker]

_BY_CODE: dict[str, type[PsistreamError]] = {
    kind.code: kind
    for kind in (InvalidInput, UnknownSession, Full, Forbidden, ModelFilesError, BackendError, Unavailable)
}
_BY_CODE["worker_lost"] = Unavailable


def as_error(code: str, message: str) -> PsistreamError:
    """The exception for an error code that came across the boundary."""
    return _BY_CODE.get(code, BackendError)(message)
