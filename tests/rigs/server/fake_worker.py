"""A worker without a device, that says what a test wants it to say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.errors import Unavailable
from engine.types import Control, OpenSession, SessionClosed, SessionInfo
from server.worker import epochs
from server.worker.base import Alive, Event, OnEvent, Order, RestoreSession, WorkerLost
from server.worker.messages.commands import CloseSession, ExportSession, SubmitControl
from server.worker.messages.events import Exported, WorkerReady
from server.worker.messages.holding import EndCopy, Fenced, Orphaned

READY = WorkerReady("fake", "fake", 96, 160, 16, 8, 80, ("idle", "left", "right", "jump"), 1000, 3, 5.0)


class FakeWorker:
    """A fake worker that answers at once and records commands; `tell` emits any event."""

    outlives_gateway = False

    def __init__(self, on_event: OnEvent, log: list[FakeWorker] | None = None) -> None:
        self.tell: Callable[[Event], None] = on_event
        self.commands: list[Order] = []
        self.restored: list[RestoreSession] = []
        self.orphans: tuple[Orphaned, ...] = log[-1].orphans if log else ()  # what the next one still runs
        self.held: tuple[Fenced, ...] = log[-1].held if log else ()
        self.closed = self.mute = False  # sends nothing by itself
        self.deaf: bool = bool(log and log[-1].deaf)  # refuses to restore sessions, and so does its successor
        self.open_answer: Callable[[OpenSession], Event] = opened
        self.export_answer: Callable[[ExportSession], Event] = exported
        self.successor: Callable[[OpenSession], Event] | None = None  # the answers of the next worker
        if log:
            self.open_answer = log[-1].successor or opened
        if log is not None:
            log.append(self)

    async def start(self) -> WorkerReady:
        self._beat(asyncio.get_running_loop())
        return READY

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.closed:
            return
        if not self.mute:
            self.tell(Alive())
        loop.call_later(0.05, self._beat, loop)

    def send(self, command: Order) -> None:
        if isinstance(command, RestoreSession):
            if self.deaf:
                raise Unavailable("the worker is overloaded; try again in a moment")
            self.restored.append(command)
            for each in (command.opening, *command.then):
                self.send(each)
            return
        self.commands.append(command)
        if self.mute:
            return
        loop = asyncio.get_running_loop()
        match command:
            case OpenSession():
                loop.call_soon(self.tell, self.open_answer(command))
            case ExportSession():
                loop.call_soon(self.tell, self.export_answer(command))
            case CloseSession(session) | EndCopy(session, epoch=epochs.CLOSED):
                loop.call_soon(self.tell, SessionClosed(session, "closed", "the session was closed"))

    async def close(self) -> None:
        self.closed = True

    def die(self) -> None:
        self.tell(WorkerLost("the worker was killed by signal 9 (Killed)"))

    def submitted(self) -> list[Control]:
        return [c.control for c in self.commands if isinstance(c, SubmitControl)]


def opened(command: OpenSession) -> SessionInfo:
    prompt = command.prompt if isinstance(command.prompt, str) else "as it was"
    return SessionInfo(command.session, prompt, command.seed or 0, False, None, 0, 0, 0, 1000)


def exported(command: ExportSession) -> Exported:
    return Exported(command.session, command.request, f"{command.what} of {command.session}".encode())
