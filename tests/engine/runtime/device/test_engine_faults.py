"""What the engine refuses and what it survives: bad sessions, broken backends, floods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.backends.fake import FAIL_WORD, FAKE_SPEC, NAN_WORD, FakeBackend
from engine.config import RuntimeConfig
from engine.errors import Full, InvalidInput, UnknownSession
from engine.types import (
    Action,
    Control,
    Image,
    OpenSession,
    Pause,
    Prompt,
    Reset,
)
from tests.engine.runtime.device.frames import frames
from tests.rigs.engine.fakes import Rig


def test_a_full_engine_says_so_and_a_closed_session_frees_its_place_at_once() -> None:
    rig = Rig(config=RuntimeConfig(max_sessions=2))
    rig.open("a")
    rig.open("b")
    with pytest.raises(Full, match="all 2 sessions") as caught:
        rig.open("c")
    assert caught.value.retry_after_s > 0
    rig.engine.close_session("a")
    rig.open("c")
    rig.run(1.0)
    assert [(e.session, e.code) for e in rig.closed()] == [("a", "closed")]
    assert rig.segments("c")
    assert not rig.segments("a")


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (OpenSession("s", "a fox", 1), "session"),
        (OpenSession("t", "a fox", 1, np.zeros((96, 160, 3), np.uint8)), "image"),
    ],
)
def test_a_bad_session_is_refused_by_field(command: OpenSession, field: str) -> None:
    rig = Rig()
    rig.open("s")
    with pytest.raises(InvalidInput) as caught:
        rig.engine.open(command)
    assert caught.value.field == field
    assert rig.run_segments(1)


def test_a_model_that_goes_on_from_pictures_always_has_one() -> None:
    """Refused without; a cut and a reset start from the same picture again; another picture replaces it."""
    backend = FakeBackend(replace(FAKE_SPEC, needs_image=True))
    rig = Rig(backend)
    assert rig.engine.warm_up() >= 0
    with pytest.raises(InvalidInput, match="image is missing"):
        rig.open("s")
    picture = np.full((3, 96, 160), 90, np.uint8)
    rig.engine.open(OpenSession("s", "a fox", 1, picture))
    rig.engine.set_watched("s", True)
    first = rig.run_segments(2)
    rig.submit(Reset())
    assert frames(rig.run_segments(2)) == frames(first)
    rig.submit(Prompt("a fox", how="cut"))
    assert frames(rig.run_segments(2)) != frames(first)  # other noise, the same start
    rig.submit(Image(picture // 3))
    rig.run_segments(1)
    assert backend.calls["encode_image"] == 3  # warm-up, start, another
    assert "embed_image" not in backend.calls


def test_an_unknown_session_is_an_error_for_controls_and_ignored_by_the_rest() -> None:
    rig = Rig()
    with pytest.raises(UnknownSession):
        rig.submit(Pause(), session="ghost")
    rig.engine.set_watched("ghost", True)
    rig.engine.close_session("ghost")
    assert rig.engine.step() is None


@pytest.mark.parametrize("bad", ["a", "z"])  # first in the batch, or last
@pytest.mark.parametrize(("word", "code"), [(FAIL_WORD, "backend"), (NAN_WORD, "not_finite")])
def test_what_breaks_one_session_ends_it_and_no_other(bad: str, word: str, code: str) -> None:
    rig, undisturbed = Rig(), Rig()
    for r in (rig, undisturbed):
        r.open("good", "a red fox", seed=3)
        r.open(bad, "a blue fox", seed=4)
        r.run_segments(2, "good")
    rig.submit(Prompt(f"a {word}"), session=bad)
    after = rig.run_segments(5, "good")
    assert frames(after) == frames(undisturbed.run_segments(5, "good"))
    assert after[-1].late_total == 0
    assert [(e.session, e.code) for e in rig.closed()] == [(bad, code)]
    with pytest.raises(UnknownSession):
        rig.submit(Pause(), session=bad)
    rig.open(bad, "a fresh start")
    assert rig.run_segments(1, bad)


def test_a_session_closed_in_mid_segment_is_dropped_from_its_batch() -> None:
    rig: Rig = Rig(FakeBackend(delay_s=1.0, sleep=lambda _: rig.engine.close_session("gone")))
    rig.open("gone")
    rig.open("stays")
    assert rig.run_segments(2, "stays")
    assert rig.backend.batches[0] == 2
    assert not rig.segments("gone")
    assert [e.session for e in rig.closed()] == ["gone"]


def test_a_backend_that_is_gone_ends_every_session_with_a_reason_and_the_engine_lives() -> None:
    rig = Rig(FakeBackend(fail_after=6))
    rig.open("a")
    rig.open("b")
    rig.run(5.0)
    assert sorted((e.session, e.code) for e in rig.closed()) == [("a", "backend"), ("b", "backend")]
    assert "told to fail" in rig.closed()[0].message
    rig.backend.fail_after = None
    rig.open("c")
    assert rig.run_segments(1, "c")


def test_controls_that_wait_when_a_session_ends_are_answered() -> None:
    rig = Rig()
    rig.open()
    rig.run_segments(1)
    waiting = rig.submit(Prompt("night"))
    rig.engine.close_session("s")
    rig.run(1.0)
    assert [(r.id, r.status, r.code) for r in rig.receipts()] == [(waiting, "rejected", "closed")]


def test_a_flood_of_controls_is_bounded_and_loses_no_prompt_silently() -> None:
    rig = Rig(config=RuntimeConfig(inbox=4, max_sessions=4))
    rig.open()
    prompts = [rig.submit(Prompt("night"))]
    for n in range(50):
        rig.submit(Action("left" if n % 2 else "right"))
    prompts.append(rig.submit(Prompt("red")))
    rig.run_segments(1)
    status = {r.id: (r.status, r.code) for r in rig.receipts()}
    assert all(status[p] == ("applied", None) for p in prompts)
    for n in range(100_000 // 50):
        rig.engine.submit("s", Control(f"flood{n}", Prompt("x")))
    assert len(rig.engine._outbox) <= 4 * 4 * 4
    assert rig.run_segments(1)


def test_a_listener_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: object) -> None:
        raise RuntimeError("listener")

    rig = Rig(on_event=fail)
    rig.open()
    assert len(rig.run_segments(3)) == 3
    assert "the sink failed on SegmentReady" in caplog.text


def test_settings_are_checked_by_name() -> None:
    for data, field in (
        ({"max_sessions": 0}, "max_sessions"),
        ({"max_batch": "many"}, "max_batch"),
        ({"lead_max_s": 0.01}, "lead_max_s"),
        ({"idle_grace_s": -1}, "idle_grace_s"),
        ({"context_noise": 2}, "context_noise"),
        ({"lead_margin": "wide"}, "lead_margin"),
        ({"late_margin_s": float("nan")}, "late_margin_s"),
        ({"least_fps": -1}, "least_fps"),
        ({"stall_s": "long"}, "stall_s"),
    ):
        with pytest.raises(InvalidInput) as caught:
            RuntimeConfig(**data)
        assert caught.value.field == field
