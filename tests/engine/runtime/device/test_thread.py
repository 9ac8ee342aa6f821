"""The engine on its own thread: it wakes at once, closes at once, and forgets what was in flight."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from engine.backends.fake import FakeBackend
from engine.config import RuntimeConfig
from engine.errors import InvalidInput, Unavailable
from engine.runtime.device.engine import Engine
from engine.types import (
    Control,
    OpenSession,
    Pause,
    Receipt,
    Resume,
    RuntimeEvent,
    SegmentReady,
    SessionClosed,
    SessionInfo,
)
from tests.rigs.engine.fakes import TINY_SPEC

WAIT_S = 5.0
SLOW_SPEC = replace(TINY_SPEC, fps=1)  # the next segment is due in 8 s, later than anybody waits


class Gate:
    """A device that stops in mid-step until it is let through; used as the fake's sleep."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, _: float) -> None:
        self.entered.set()
        assert self.open.wait(WAIT_S)


class Heard:
    def __init__(self) -> None:
        self.events: list[RuntimeEvent] = []
        self.threads: set[str] = set()
        self.then: Callable[[RuntimeEvent], None] = lambda event: None
        self._changed = threading.Condition()

    def __call__(self, event: RuntimeEvent) -> None:
        self.then(event)
        with self._changed:
            self.events.append(event)
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def wait(self, kind: type[RuntimeEvent], count: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: sum(isinstance(e, kind) for e in self.events) >= count, WAIT_S
            )


@contextmanager
def running(backend: FakeBackend, config: RuntimeConfig | None = None) -> Iterator[tuple[Engine, Heard]]:
    heard = Heard()
    engine = Engine(backend, config or RuntimeConfig(max_load=100.0), heard)
    engine.start()
    try:
        yield engine, heard
    finally:
        engine.close()


def test_everything_is_said_on_the_device_thread_and_controls_wake_it() -> None:
    with running(FakeBackend(SLOW_SPEC)) as (engine, heard):
        engine.open(OpenSession("s", "a fox", 1))
        heard.wait(SegmentReady)
        engine.submit("s", Control("p", Pause()))
        heard.wait(Receipt)  # not at the next segment's time
        made = sum(isinstance(e, SegmentReady) for e in heard.events)
        engine.close_session("s")
        heard.wait(SessionClosed)
        assert sum(isinstance(e, SegmentReady) for e in heard.events) == made
    assert heard.threads == {"psistream-device"}


def test_a_control_that_comes_while_a_turn_ends_is_not_slept_over() -> None:
    with running(FakeBackend(TINY_SPEC)) as (engine, heard):

        def resume_at_once(event: RuntimeEvent) -> None:
            if isinstance(event, Receipt) and event.id == "pause":
                engine.submit("s", Control("resume", Resume()))

        heard.then = resume_at_once
        engine.open(OpenSession("s", "a fox", 1))
        engine.submit("s", Control("pause", Pause()))
        heard.wait(Receipt, 2)
        heard.wait(SegmentReady)


def is_closing(engine: Engine) -> bool:
    try:
        engine.open(OpenSession("s", "a fox", 1))
    except InvalidInput:
        return False  # it is open already
    except Unavailable:
        return True
    raise AssertionError("it was opened a second time")


def test_it_closes_at_once_in_mid_segment_and_can_be_closed_again() -> None:
    gate = Gate()
    backend = FakeBackend(TINY_SPEC, delay_s=1.0, sleep=gate)
    with running(backend) as (engine, heard):
        engine.open(OpenSession("s", "a fox", 1))
        assert gate.entered.wait(WAIT_S)
        closing = threading.Thread(target=engine.close)
        closing.start()
        while not is_closing(engine):
            time.sleep(0.001)
        gate.open.set()
        closing.join()
        assert backend.calls["denoise"] == 1  # of four
        assert "decode" not in backend.calls
        engine.close()
        with pytest.raises(Unavailable):
            engine.open(OpenSession("t", "a fox", 1))
    assert [(e.session, e.code) for e in heard.events if isinstance(e, SessionClosed)] == [("s", "closed")]
    assert not any(isinstance(e, SegmentReady) for e in heard.events)


def test_a_session_closed_in_mid_segment_frees_its_place_and_its_work_is_dropped() -> None:
    gate = Gate()
    backend = FakeBackend(TINY_SPEC, delay_s=1.0, sleep=gate)
    with running(backend, RuntimeConfig(max_sessions=1)) as (engine, heard):
        engine.open(OpenSession("gone", "a fox", 1))
        assert gate.entered.wait(WAIT_S)
        engine.close_session("gone")
        engine.open(OpenSession("next", "a fox", 1))
        gate.open.set()
        heard.wait(SegmentReady)
        assert backend.calls["denoise"] <= 1 + TINY_SPEC.first_steps + TINY_SPEC.steps
    assert {e.session for e in heard.events if isinstance(e, SegmentReady)} == {"next"}
    assert not any(t.name == "psistream-device" for t in threading.enumerate())


def test_an_engine_that_never_started_closes_too() -> None:
    heard = Heard()
    engine = Engine(FakeBackend(TINY_SPEC), RuntimeConfig(), heard)
    engine.open(OpenSession("s", "a fox", 1))
    engine.close()
    engine.close()
    assert [e.code for e in heard.events if isinstance(e, SessionClosed)] == ["closed"]


def test_a_fault_of_the_engine_itself_ends_its_sessions_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    def broken_clock() -> float:
        if threading.current_thread().name == "psistream-device":
            raise OSError("no time")
        return 0.0

    heard, order = Heard(), list[object]()
    heard.then = order.append
    engine = Engine(FakeBackend(TINY_SPEC), RuntimeConfig(), heard, broken_clock, order.append)
    engine.open(OpenSession("s", "a fox", 1))
    engine.start()
    heard.wait(SessionClosed)
    engine.close()
    assert [e.code for e in heard.events if isinstance(e, SessionClosed)] == ["internal"]
    assert "the device thread failed" in caplog.text
    assert [type(what) for what in order] == [OSError, SessionInfo, SessionClosed]
    with pytest.raises(Unavailable):
        engine.open(OpenSession("t", "a fox", 1))
