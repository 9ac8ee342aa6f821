"""A fake gateway that records how it was steered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from engine.errors import Full, UnknownSession
from engine.types import Action, Control, Pause, Prompt, Receipt, Resume, SessionClosed, SessionInfo, Stall
from server.control.base import Listener, SessionEvent
from server.worker.messages.events import SegmentStats


def session_info(
    id_: str = "main", prompt: str = "a red robot walks", buffering: Stall | None = None
) -> SessionInfo:
    return SessionInfo(
        id=id_,
        prompt=prompt,
        seed=7,
        paused=False,
        action=None,
        epoch=0,
        segment=3,
        frame=24,
        state_bytes=1000,
        buffering=buffering,
    )


def segment_stats(session: str = "main", segment: int = 4, rate: float = 1.0) -> SegmentStats:
    return SegmentStats(
        session=session,
        epoch=0,
        segment=segment,
        frame=segment * 8,
        timings_ms={"denoise": 120.0, "total": 200.0},
        lead_ms=90.0,
        late_total=0,
        dropped_frames_total=0,
        state_bytes=1000,
        encode_ms=6.0,
        speed=2.5 * rate,
        rate=rate,
    )


class FakeSteering:
    """A Steering that records every call. With `applies`, it applies each control in the next turn of the
    event loop."""

    def __init__(self, *sessions: str, applies: bool = True) -> None:
        self.infos = {name: session_info(name) for name in sessions or ("main",)}
        self.controls: list[tuple[str, Control]] = []
        self.applies = applies
        self.error: Exception | None = None
        self.waiting: set[str] = set()
        self._receipts: dict[tuple[str, str], Receipt] = {}
        self._listeners: list[tuple[Listener, str | None]] = []

    def session_ids(self) -> list[str]:
        return list(self.infos)

    def waiting_ids(self) -> list[str]:
        return sorted(self.waiting)

    def info(self, session_id: str) -> SessionInfo:
        if session_id in self.waiting:
            raise Full("this session is saved and waits for a free place: try again in a moment")
        if session_id not in self.infos:
            raise UnknownSession(f"no session is called {session_id}: see GET /v1/sessions")
        return self.infos[session_id]

    def submit(self, session_id: str, control: Control) -> Receipt:
        self.info(session_id)
        if self.error is not None:
            raise self.error
        key = (session_id, control.id)
        if key not in self._receipts:
            self._receipts[key] = Receipt(session_id, control.id, "received")
            self.controls.append((session_id, control))
            if self.applies:
                asyncio.get_running_loop().call_soon(self.apply, session_id, control)
        return self._receipts[key]

    def apply(self, session: str, control: Control) -> None:
        info = replace(self.infos[session], segment=self.infos[session].segment + 1)
        match control.body:
            case Prompt(text=text):
                info = replace(info, prompt=str(text))
            case Action(action=action):
                info = replace(info, action=action)
            case Pause() | Resume():
                info = replace(info, paused=isinstance(control.body, Pause))
        self.infos[session] = info
        receipt = Receipt(session, control.id, "applied", segment=info.segment, frame=info.segment * 8)
        self._receipts[(session, control.id)] = receipt
        self.emit(receipt)
        self.emit(info)

    def close(self, session: str) -> None:
        del self.infos[session]
        self.emit(SessionClosed(session, "closed", "the session was closed"))

    def listen(self, listener: Listener, session: str | None = None) -> Callable[[], None]:
        entry = listener, session
        self._listeners.append(entry)
        return lambda: self._listeners.remove(entry)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def emit(self, event: SessionEvent) -> None:
        about = event.id if isinstance(event, SessionInfo) else event.session
        for listener, session in list(self._listeners):
            if session in (None, about):
                listener(event)
