"""The boundary between gateway and worker: a worker takes commands and reports events.

It makes no difference here whether the worker is a thread or another process. A worker knows nothing of HTTP,
viewers or tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.errors import (
    BackendError,
    Full,
    InvalidInput,
    ModelFilesError,
    PsistreamError,
    Unavailable,
    UnknownSession,
)
from engine.types import OpenSession, Receipt
from server.worker.messages import Command, WorkerEvent, WorkerFailed, WorkerReady


@dataclass(frozen=True)
class GoOn:
    """Opens a session that another worker ran, and brings it to where it was. Its place was promised, so it
    is admitted before any newcomer, whatever capacity this worker measures. Its first new picture is shown in
    `starts_in_s` at the earliest: until then the other worker's plays on."""

    opening: OpenSession
    then: tuple[Command, ...]
    starts_in_s: float = 0.0


@dataclass(frozen=True)
class Applied:
    """An `applied` receipt and the media time of the first frame that shows the control."""

    receipt: Receipt
    pts_90k: int


@dataclass(frozen=True)
class WorkerLost:
    """The worker ended without having been told to; its sessions can be restored from their snapshots."""

    message: str


@dataclass(frozen=True)
class Alive:
    """The heartbeat: sent twice a second, whatever the device does."""


NOT_RUNNING = "the worker is not running; try again in a moment"
TOO_MUCH = "the worker has too much to do; try again in a moment"

Order = Command | GoOn
Event = WorkerEvent | Applied | WorkerLost | Alive
OnEvent = Callable[[Event], None]  # called on the event loop; must not block


class Worker(Protocol):
    async def start(self) -> WorkerReady:
        """Load the model and run one segment. Raises the PsistreamError that stopped it."""
        ...

    def send(self, command: Order) -> None:
        """Never blocks. Raises Unavailable when the worker is gone or has too much to do."""
        ...

    async def close(self) -> None:
        """Stop and free the device, by force if it takes more than a second. Idempotent."""
        ...


MakeWorker = Callable[[OnEvent], Worker]

_BY_CODE: dict[str, type[PsistreamError]] = {
    kind.code: kind
    for kind in (InvalidInput, UnknownSession, Full, ModelFilesError, BackendError, Unavailable)
}
_BY_CODE["worker_lost"] = Unavailable


def as_error(code: str, message: str) -> PsistreamError:
    """The exception for a code that came from the other side of the boundary."""
    return _BY_CODE.get(code, BackendError)(message)


def as_failure(error: PsistreamError) -> WorkerFailed:
    return WorkerFailed(code=error.code, message=error.message)
