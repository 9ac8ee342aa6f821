"""What stands for a worker's device, playout and threads: sessions that are nothing but lists of what has
taken effect in them, four frames a second of which one is sent."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from engine.types import (
    Capacity,
    Control,
    OpenSession,
    Pause,
    Receipt,
    Resume,
    Rewind,
    SessionClosed,
    SessionInfo,
)
from server.worker.base import BEAT_S, Alive, Applied, Numbers, Order, RestoreSession
from server.worker.messages.commands import (
    CloseSession,
    ExportSession,
    RequestKeyframe,
    SetViewers,
    SubmitControl,
)
from server.worker.messages.events import Exported, Packet, SegmentStats, WorkerReady
from tests.rigs.simulation.effects import Effects
from tests.rigs.simulation.sizes import Limits

SEGMENT_S, FRAMES, GRACE_S, FIRST_S = 1.0, 4, 5.0, 0.08
READY = WorkerReady(
    "simulated", "fake", 96, 160, FRAMES, FRAMES, 1, ("left",), 1000, 5, 80.0, codecs=("vp8",)
)


@dataclass
class Copy:
    """A session in this device. `effects` are the ids of controls, as of the next segment."""

    prompt: str
    seed: int
    first: Numbers
    not_before_s: float
    grace_s: float
    base_s: float
    number: int  # of this copy
    line: list[int]  # the copies that it comes from, and its own number
    effects: list[str] = field(default_factory=list)
    on_screen: list[str] = field(default_factory=list)  # effects of the segment that is shown
    past: list[tuple[float, list[str]]] = field(default_factory=list)  # effects of what was shown, and when
    rewinds: int = 0
    segment: int = 0  # generated next
    shown: int = -1
    due_s: float = 0.0  # of the next one
    paused: bool = False
    viewers: SetViewers | None = None
    waiting: list[Control] = field(default_factory=list)
    answers: dict[str, Receipt | None] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)  # renditions that have had their keyframe

    def ago(self, seconds: float, now_s: float) -> list[str]:
        """The effects of what was on the screen then, or of the first that is kept."""
        if not seconds or not self.past:
            return self.on_screen
        return next((e for at_s, e in reversed(self.past) if at_s <= now_s - seconds), self.past[0][1])

    def runs(self, now_s: float) -> bool:
        watched = self.viewers is not None and any(self.viewers.viewers.values())
        throttled = self.viewers is not None and self.viewers.throttled
        return not self.paused and not throttled and (watched or now_s < self.grace_s)


class Device:
    """Has the interface of WorkerCore."""

    def __init__(
        self, emit: Callable[[Any], None], clock: Callable[[], float], effects: Effects, limits: Limits
    ) -> None:
        self._emit, self._clock, self._effects, self.limits = emit, clock, effects, limits
        self._loop = asyncio.get_running_loop()
        self.copies: dict[str, Copy] = {}
        self.on_close: Callable[[str], None] = lambda session: None
        self.ready = replace(READY, max_sessions=limits.places)
        self._beats = 0
        self._beat()

    def _beat(self) -> None:
        self._emit(Alive())
        self._beats += 1
        if not self._beats % 20:
            self._tell_capacity()
        self._loop.call_later(BEAT_S, self._beat)

    def close(self) -> None:
        pass

    def handle(self, order: Order) -> None:
        match order:
            case OpenSession():
                self._open(order, None, 0.0)
            case RestoreSession(opening, then, starts_in_s, numbers=numbers):
                if self._open(opening, numbers, starts_in_s):
                    for each in then:
                        self.handle(each)
            case SubmitControl(session, control):
                self._submit(session, control)
            case ExportSession():
                self._emit(self._exported(order))
            case SetViewers(session) if copy := self.copies.get(session):
                copy.viewers = order
                copy.keys &= order.viewers.keys()
                copy.grace_s = self._clock() + GRACE_S
            case RequestKeyframe(session, rendition) if copy := self.copies.get(session):
                copy.keys.discard(rendition)
            case CloseSession(session):
                self.on_close(session)
                self._loop.call_later(0.01, self._close, session, self.copies.get(session))
            case _:
                pass

    def _open(self, order: OpenSession, first: Numbers | None, starts_in_s: float) -> bool:
        now_s = self._clock()
        full = first is None and not self.has_place
        if full or order.session in self.copies:
            code = "full" if full else "invalid"
            self._emit(SessionClosed(order.session, code, "all places are taken"))
            return False
        if order.fork_of is not None and order.fork_of not in self.copies:
            self._emit(SessionClosed(order.session, "unknown_session", "there is none to fork"))
            return False
        if order.fork_of is not None:
            saved = self._saved(self.copies[order.fork_of], order.rewind_s)
        else:
            saved = json.loads(order.snapshot) if order.snapshot else {}
        start_s = now_s + starts_in_s
        base_s = start_s - (first.media_90k / 90_000 if first else 0.0)
        prompt, seed = str(order.prompt or saved["prompt"]), order.seed or 0
        number = self._effects.new_copy()
        line = [*saved.get("line", ()), number]
        copy = Copy(prompt, seed, first or Numbers(), start_s, now_s + GRACE_S, base_s, number, line)
        copy.effects, copy.on_screen = list(saved.get("effects", ())), list(saved.get("effects", ()))
        self.copies[order.session] = copy
        if first is None:
            self._effects.born(order.session, copy.effects, fork=order.fork_of is not None)
        self._emit(self._info(order.session, copy))
        self._tell_capacity()
        self._loop.call_later(FIRST_S, self._turn, order.session, copy)
        return True

    def _close(self, session: str, copy: Copy | None) -> None:
        if copy is not None and self.copies.get(session) is copy:
            del self.copies[session]
            self._emit(SessionClosed(session, "closed", "the session was closed"))
            self._tell_capacity()

    def _tell_capacity(self) -> None:
        self._emit(Capacity(self.limits.capacity, len(self.copies), 0.1, len(self.copies)))

    @property
    def has_place(self) -> bool:
        return len(self.copies) < min(self.limits.places, self.limits.capacity)

    def _submit(self, session: str, control: Control) -> None:
        copy = self.copies.get(session)
        if copy is None:
            self._emit(Receipt(session, control.id, "rejected", code="unknown_session", message="none"))
        elif control.id in copy.answers:
            if (answer := copy.answers[control.id]) is not None:
                self._emit(answer)
        else:
            copy.answers[control.id] = None
            copy.waiting.append(control)
            copy.grace_s = self._clock() + GRACE_S
            if copy.paused and isinstance(control.body, Resume):
                copy.paused = False

    def _turn(self, session: str, copy: Copy) -> None:
        """A segment ends: show the one that is ready, and generate the next."""
        if self.copies.get(session) is not copy:
            return
        now_s = self._clock()
        pause_s = SEGMENT_S
        if copy.runs(now_s):
            if copy.shown < copy.segment - 1:
                self._show(session, copy, now_s)
            else:
                pause_s = max(0.0, copy.not_before_s - now_s)
            self._generate(session, copy, now_s + pause_s)
        copy.due_s = now_s + pause_s
        self._loop.call_later(pause_s, self._turn, session, copy)

    def _show(self, session: str, copy: Copy, now_s: float) -> None:
        copy.shown = copy.segment - 1
        copy.on_screen = list(copy.effects)
        copy.past = [*copy.past[-60:], (now_s, copy.on_screen)]
        epoch, segment, frame = self._numbers(copy, copy.shown)
        pts = self._media_90k(copy, now_s)
        late = (0.0, 0, 0, 1000, 0.5)
        self._emit(
            SegmentStats(
                session, epoch, segment, frame, {"total": self.limits.segment_ms}, *late, pts_90k=pts
            )
        )
        for name in copy.viewers.viewers if copy.viewers else ():
            key = name not in copy.keys
            copy.keys.add(name)
            self._emit(Packet(session, name, epoch, segment, frame, pts, key, b"\x10" * 20))

    def _generate(self, session: str, copy: Copy, due_s: float) -> None:
        _, segment, frame = self._numbers(copy, copy.segment)
        for control in copy.waiting:
            receipt = Receipt(session, control.id, "applied", segment, frame)
            copy.answers[control.id] = receipt
            self._effects.apply(session, copy.number, copy.effects, control.id)
            if isinstance(control.body, Rewind):
                self._rewind(session, copy, control.body.seconds)
            copy.effects.append(control.id)
            if isinstance(control.body, Pause | Resume):
                copy.paused = isinstance(control.body, Pause)
            self._emit(Applied(receipt, self._media_90k(copy, due_s)))
        if copy.waiting:
            self._emit(self._info(session, copy))
        copy.waiting.clear()
        copy.segment += 1

    def _rewind(self, session: str, copy: Copy, seconds: float) -> None:
        there = copy.ago(seconds, self._clock())
        self._effects.undone(session, copy.effects, there)
        copy.effects, copy.rewinds = list(there), copy.rewinds + 1
        copy.past = [(at_s, effects) for at_s, effects in copy.past if len(effects) <= len(there)]

    def _numbers(self, copy: Copy, segment: int) -> tuple[int, int, int]:
        first = copy.first
        return first.epoch + copy.rewinds, first.segment + segment, first.frame + FRAMES * segment

    def _media_90k(self, copy: Copy, at_s: float) -> int:
        return round((at_s - copy.base_s) * 90_000)

    def _info(self, session: str, copy: Copy) -> SessionInfo:
        numbers = self._numbers(copy, copy.segment)
        return SessionInfo(session, copy.prompt, copy.seed, copy.paused, None, *numbers, 1000)

    def _saved(self, copy: Copy, rewind_s: float) -> dict[str, Any]:
        effects = copy.ago(rewind_s, self._clock())
        return {"effects": effects, "prompt": copy.prompt, "line": copy.line}

    def _exported(self, order: ExportSession) -> Exported:
        copy, now_s = self.copies.get(order.session), self._clock()
        if copy is None:
            return Exported(order.session, order.request, None, "unknown_session", "none")
        data = json.dumps(self._saved(copy, order.rewind_s)).encode()
        end_s = max(now_s, copy.due_s)
        last = self._numbers(copy, copy.shown)[1] if copy.shown >= 0 else -1
        timing = end_s - now_s, self._media_90k(copy, end_s)
        return Exported(order.session, order.request, data, None, None, last, *timing)


class SimulatedOrders:
    """Has the interface of Orders: an order is carried out a little later."""

    def __init__(
        self, handle: Callable[[Order], None], broken: Callable[[str], None], again: Callable[[], None]
    ) -> None:
        self._handle = handle
        self._loop, self._chance = asyncio.get_running_loop(), random.Random("orders")
        self._waiting: deque[Order] = deque()

    def put(self, order: Order) -> bool:
        self._waiting.append(order)
        if len(self._waiting) == 1:
            self._later()
        return True

    def _later(self) -> None:
        busy = self._chance.random() < 0.05
        self._loop.call_later(self._chance.random() * (0.5 if busy else 0.005), self._next)

    def _next(self) -> None:
        order = self._waiting.popleft()
        self._handle(order)
        if self._waiting:
            self._later()
