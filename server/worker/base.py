"""What a worker is to the gateway: something that takes commands and says what happened. The one boundary.

Whether it is a thread of this process or another process is not visible here; a worker knows nothing of
HTTP, viewers or tokens.
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
    """Opens a session that another worker has lost, and brings it to where it was. Its place was promised: it
    has it before any newcomer, whatever this worker measures of itself."""

    opening: OpenSession
    then: tuple[Command, ...]


@dataclass(frozen=True)
class Applied:
    """An `applied` receipt and the media time of the first frame that shows the control."""

    receipt: Receipt
    pts_90k: int


@dataclass(frozen=True)
class WorkerLost:
    """The worker is gone without having been told to; what its sessions were is in their snapshots."""

    message: str


@dataclass(frozen=True)
class Alive:
    """The worker has nothing to say, but it could: told twice a second whatever its device does."""


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
    """The exception that a code from the other side of the boundary stands for."""
    return _BY_CODE.get(code, BackendError)(message)


def as_failure(error: PsistreamError) -> WorkerFailed:
    return WorkerFailed(code=error.code, message=error.message)
