"""Fakes that several tests share. Nothing here sleeps or opens sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.backends.fake import FAKE_SPEC, FakeBackend
from engine.config import RuntimeConfig
from engine.model.signature import ModelSpec
from engine.runtime.device.engine import Engine
from engine.runtime.session.session import Session
from engine.types import (
    Control,
    ControlBody,
    OpenSession,
    Receipt,
    RuntimeEvent,
    SegmentReady,
    SessionClosed,
    SessionInfo,
)

TINY_SPEC = replace(  # pixels so few that a thousand segments take a second
    FAKE_SPEC, name="tiny", height=16, width=16, latent_height=2, latent_width=2, decoder_state=(16, 2, 2)
)


class ManualClock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class Rig:
    """An engine on the fake backend, stepped by the test. Each denoising step takes `delay_s` on the clock,
    varied by the fraction `jitter`."""

    def __init__(
        self,
        backend: FakeBackend | None = None,
        *,
        delay_s: float = 0.0,
        jitter: float = 0.0,
        spec: ModelSpec = FAKE_SPEC,
        config: RuntimeConfig | None = None,
        on_event: Callable[[RuntimeEvent], None] | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.backend = backend or FakeBackend(spec, delay_s=delay_s, jitter=jitter, sleep=self.clock.advance)
        self.events: list[RuntimeEvent] = []
        self._on_event = on_event
        self.engine = Engine(self.backend, config or RuntimeConfig(max_sessions=8), self._hear, self.clock)
        self._ids = 0

    def _hear(self, event: RuntimeEvent) -> None:
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)

    def open(self, session: str = "s", prompt: str = "a fox", seed: int = 1) -> None:
        self.engine.open(OpenSession(session, prompt, seed))
        self.engine.set_watched(session, True)

    def session(self, name: str) -> Session:
        """What the engine stores of a session. Only tests of its state look inside, and only through this."""
        return self.engine._sessions[name]

    def submit(self, body: ControlBody, session: str = "s", id: str | None = None) -> str:
        self._ids += 1
        control = Control(id or f"c{self._ids}", body)
        self.engine.submit(session, control)
        return control.id

    def run(self, seconds: float) -> None:
        """Step as the device thread would, until the clock has advanced by this much."""
        end_s = self.clock() + seconds
        while True:
            wake_s = self.engine.step()
            if wake_s is None or wake_s > end_s:
                self.clock.now_s = max(self.clock(), end_s)
                return
            self.clock.now_s = max(self.clock(), wake_s)

    def run_segments(self, count: int, session: str = "s") -> list[SegmentReady]:
        """Step until `session` has made `count` more segments, and return them."""
        before = len(self.segments(session))
        for _ in range(100 * count + 100):
            if len(self.segments(session)) >= before + count:
                return self.segments(session)[before:]
            wake_s = self.engine.step()
            self.clock.now_s = max(self.clock(), wake_s if wake_s is not None else self.clock())
        raise AssertionError(f"{session} made fewer than {count} segments")

    def segments(self, session: str = "s") -> list[SegmentReady]:
        return [e for e in self.events if isinstance(e, SegmentReady) and e.session == session]

    def receipts(self, session: str = "s") -> list[Receipt]:
        return [e for e in self.events if isinstance(e, Receipt) and e.session == session]

    def infos(self, session: str = "s") -> list[SessionInfo]:
        return [e for e in self.events if isinstance(e, SessionInfo) and e.id == session]

    def closed(self) -> list[SessionClosed]:
        return [e for e in self.events if isinstance(e, SessionClosed)]
