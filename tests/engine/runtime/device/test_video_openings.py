"""Sessions that start from a video: taken in beside others' segments, and ended by name when they can't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.backends.fake_pyramid import FakePyramid
from engine.config import RuntimeConfig
from engine.errors import Full, InvalidInput
from engine.runtime.device.engine import Engine
from engine.runtime.state import snapshot
from engine.types import ByteArray, OpenSession, RuntimeEvent, SegmentReady, SessionClosed, SessionInfo

VIDEO: ByteArray = np.full((100, 3, 96, 160), 90, np.uint8)


def command(name: str, video: ByteArray = VIDEO, prompt: str | None = "red") -> OpenSession:
    return OpenSession(name, prompt, 3, video=video)


def played(engine: Engine, events: list[RuntimeEvent], name: str) -> list[SegmentReady]:
    engine.set_watched(name, True)
    for _ in range(60):
        engine.step()
    return [e for e in events if isinstance(e, SegmentReady) and e.session == name]


def test_it_is_opened_after_the_last_piece_and_plays() -> None:
    events: list[RuntimeEvent] = []
    backend = FakePyramid()
    engine = Engine(backend, RuntimeConfig(), events.append)
    engine.open(command("a"))
    assert not any(isinstance(e, SessionInfo) for e in events)
    for _ in range(4):  # the picture, and three segments
        assert engine.step() is not None
    engine.step()
    engine.step()
    (info,) = (e for e in events if isinstance(e, SessionInfo))
    assert (info.prompt, info.seed) == ("red", 3)
    assert backend.calls["encode_video"] == 3
    assert played(engine, events, "a")
    assert b'"snapshot"' in engine.take("a", "log").data  # it can be made again from its log
    engine.close()


def test_while_it_waits_it_can_be_closed_and_others_must_wait() -> None:
    events: list[RuntimeEvent] = []
    engine = Engine(FakePyramid(), RuntimeConfig(), events.append)
    engine.open(command("a"))
    engine.open(command("b"))
    with pytest.raises(InvalidInput, match="open already"):
        engine.open(command("a"))
    with pytest.raises(Full, match="2 videos are being taken in"):
        engine.open(command("c"))
    engine.step()
    engine.close_session("a")
    for _ in range(12):
        engine.step()
    assert [e.session for e in events if isinstance(e, SessionClosed)] == ["a"]
    assert [e.id for e in events if isinstance(e, SessionInfo)] == ["b"]
    engine.close()


def test_it_can_be_closed_at_the_moment_when_it_would_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knew it then: it was opened, and nothing could close it any more."""
    events: list[RuntimeEvent] = []
    engine = Engine(FakePyramid(), RuntimeConfig(), events.append)
    save = snapshot.save

    def saved(*given: Any) -> bytes:
        engine.close_session("a")
        engine.open(command("a"))  # and there is another one of that name
        monkeypatch.undo()
        return save(*given)

    monkeypatch.setattr(snapshot, "save", saved)
    engine.open(command("a"))
    for _ in range(6):
        engine.step()
    assert [type(e) for e in events if isinstance(e, SessionClosed | SessionInfo)] == [SessionClosed]
    for _ in range(12):
        engine.step()
    assert [e.id for e in events if isinstance(e, SessionInfo)] == ["a"]
    assert len([e for e in events if isinstance(e, SessionClosed)]) == 1
    engine.close()


def test_what_it_cannot_start_from_is_named() -> None:
    events: list[RuntimeEvent] = []
    engine = Engine(FakePyramid(), RuntimeConfig(), events.append)
    with pytest.raises(InvalidInput, match="at least 33 more") as e:
        engine.open(command("a", VIDEO[:20]))
    assert e.value.field == "video"
    with pytest.raises(InvalidInput, match="prompt is missing"):
        engine.open(command("a", prompt=None))
    engine.open(command("a", prompt="boom"))  # the fake's word for a failure
    for _ in range(12):
        engine.step()
    engine.close()
