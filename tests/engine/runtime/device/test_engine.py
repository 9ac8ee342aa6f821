"""The engine: steering, receipts, pacing and isolation, stepped by hand on a clock that stands still."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

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
    Resume,
    SegmentReady,
)
from tests.rigs.fakes import TINY_SPEC, Rig

SEGMENT_S = FAKE_SPEC.segment_s


def frames(segments: list[SegmentReady]) -> list[bytes]:
    return [segment.frames.tobytes() for segment in segments]


def steered(delay_s: float = 0.0, seed: int = 3) -> list[SegmentReady]:
    """A session with controls at fixed segments."""
    rig = Rig(delay_s=delay_s)
    rig.open(prompt="a red fox", seed=seed)
    segments = rig.run_segments(3)
    for body in (Action("right"), Prompt("a blue fox"), Prompt("night city", how="cut"), Action(None)):
        rig.submit(body)
        segments += rig.run_segments(3)
    rig.submit(Reset())
    return segments + rig.run_segments(2)


# ---- replay and isolation ----


def test_a_session_is_replayed_bit_for_bit_from_its_seed_and_controls() -> None:
    once = steered()
    again = steered(delay_s=0.02)  # however long the device takes
    assert frames(once) == frames(again)
    assert len(set(frames(once))) == len(once)
    assert frames(steered(seed=4)) != frames(once)


def test_segments_and_frames_are_numbered_without_gaps_across_cuts_and_resets() -> None:
    segments = steered()
    assert [s.segment for s in segments] == list(range(len(segments)))
    assert [s.first_frame for s in segments] == [n * 8 for n in range(len(segments))]
    assert {s.epoch for s in segments} == {0}  # nothing that was queued became invalid
    assert all(s.frames.shape == (8, 96, 160, 3) and s.frames.dtype == np.uint8 for s in segments)


def test_sessions_do_not_notice_each_other() -> None:
    def watch(*others: str) -> list[bytes]:
        rig = Rig(delay_s=0.01)
        rig.open("s", "a red fox", seed=3)
        for i, name in enumerate(others):
            rig.open(name, f"{name} city", seed=i)
        segments = rig.run_segments(2)
        for name in others:
            rig.submit(Prompt("green", how="cut"), session=name)
            rig.submit(Action("jump"), session=name)
        segments += rig.run_segments(4)
        if others:
            assert max(rig.backend.batches) > 1
        return frames(segments)

    assert watch() == watch("blue", "night", "white")


# ---- steering ----


def test_a_prompt_shows_from_the_segment_that_its_receipt_names() -> None:
    rig = Rig()
    rig.open(prompt="a red city")
    before = rig.run_segments(2)
    rig.submit(Prompt("a blue city"))
    after = rig.run_segments(1)
    [receipt] = rig.receipts()
    assert (receipt.status, receipt.segment, receipt.frame) == ("applied", 2, 16)
    sky = [s.frames[:, 20:60].mean((0, 1, 2)) for s in (before[-1], after[0])]
    assert sky[0].argmax() == 0
    assert sky[1].argmax() == 2
    assert rig.infos()[-1].prompt == "a blue city"


def test_the_latest_held_action_counts_and_letting_go_gives_the_prompt_its_motion_back() -> None:
    def moves(*bodies: Action | Prompt) -> bytes:
        rig = Rig()
        rig.open(prompt="a red fox walks right")
        rig.run_segments(1)
        for body in bodies:
            rig.submit(body)
        return rig.run_segments(1)[0].frames.tobytes()

    assert moves() == moves(Action("right")) == moves(Action("left"), Action(None))
    assert moves(Action("right"), Action("left")) == moves(Action("left")) != moves()
    assert moves(Action("idle")) != moves()


def test_a_reset_shows_the_same_world_again_and_another_seed_another() -> None:
    rig = Rig()
    rig.open(prompt="a red fox", seed=9)
    first = rig.run_segments(4)
    rig.submit(Prompt("a red fox", how="cut"))
    cut = rig.run_segments(4)
    rig.submit(Reset())
    again = rig.run_segments(4)
    rig.submit(Reset(seed=10))
    other = rig.run_segments(4)
    assert frames(first) == frames(again)
    assert len({*frames(first), *frames(cut), *frames(other)}) == 12
    assert rig.infos()[-1].seed == 10


def test_a_picture_starts_a_scene_and_a_reset_returns_to_it() -> None:
    pixels = np.zeros((3, 96, 160), np.uint8)
    pixels[1, :, :80] = 255
    rig = Rig()
    rig.open(prompt="black")
    rig.run_segments(2)
    rig.submit(Image(pixels))
    shown = rig.run_segments(2)
    picture = shown[0].frames[-1, 20:60]
    assert picture[:, :70, 1].mean() > picture[:, 90:, 1].mean() + 40
    rig.submit(Prompt("red", how="cut"))
    assert rig.run_segments(1)[0].frames[-1, 20:60, :, 1].mean() < 50
    rig.submit(Image(pixels))
    rig.submit(Prompt("black"))
    once = rig.run_segments(2)
    rig.submit(Reset())
    again = rig.run_segments(2)
    for a, b in zip(once, again, strict=True):  # the scene counter differs, so only the noise does
        np.testing.assert_allclose(a.frames[:, 20:60].astype(int), b.frames[:, 20:60], atol=2)


def test_receipts_come_in_order_and_once_per_id() -> None:
    rig = Rig()
    rig.open()
    rig.run_segments(1)
    ids = [rig.submit(Action("left")) for _ in range(5)] + [rig.submit(Prompt("night"))]
    rig.submit(Prompt("red"), id=ids[0])
    rig.run_segments(1)
    assert [r.id for r in rig.receipts()] == ids
    assert {(r.status, r.segment) for r in rig.receipts()} == {("applied", 1)}
    rig.submit(Prompt("red"), id=ids[0])
    rig.run_segments(1)
    assert rig.receipts()[-1] == rig.receipts()[0]  # its earlier answer again
    assert len(rig.receipts()) == len(ids) + 1
    assert rig.infos()[-1].prompt == "night"


def test_many_prompts_at_one_boundary_cost_one_and_the_last_counts() -> None:
    rig = Rig()
    rig.open()
    rig.run_segments(2)
    before = rig.backend.calls["encode_text"]
    for n in range(40):
        rig.submit(Prompt(f"fox number {n}"))
    rig.run_segments(1)
    assert rig.backend.calls["encode_text"] == before + 1
    assert rig.infos()[-1].prompt == "fox number 39"
    assert len(rig.receipts()) == 40


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (Action("fly"), "action must be one of idle, left, right, jump or null"),
        (Image(np.zeros((3, 10, 10), np.uint8)), r"image must be uint8 RGB of shape \(3, 96, 160\)"),
    ],
)
def test_what_this_model_cannot_do_is_rejected_and_changes_nothing(body: Action | Image, names: str) -> None:
    rig, undisturbed = Rig(), Rig()
    rig.open()
    undisturbed.open()
    rig.run_segments(1)
    undisturbed.run_segments(1)
    rig.submit(body)
    assert frames(rig.run_segments(2)) == frames(undisturbed.run_segments(2))
    [receipt] = rig.receipts()
    assert (receipt.status, receipt.code, receipt.segment) == ("rejected", "invalid", None)
    assert receipt.message is not None
    assert re.search(names, receipt.message)


# ---- time ----


def test_playout_is_seamless_and_generation_never_more_than_one_lead_ahead() -> None:
    rig = Rig(delay_s=0.05)
    rig.open()
    rig.run(10.0)
    segments = rig.segments()
    assert len(segments) == 20
    assert all(b.due_s - a.due_s == pytest.approx(SEGMENT_S) for a, b in pairwise(segments))
    assert segments[-1].late_total == 0
    assert 0 < segments[-1].lead_s < 0.05  # ready just in time, so that steering takes hold fast
    assert segments[-1].timings_ms["denoise"] == pytest.approx(100)
    assert segments[-1].timings_ms["total"] == pytest.approx(100)


def test_a_cut_starts_earlier_because_it_takes_more_steps() -> None:
    rig = Rig(delay_s=0.05)
    rig.open()
    rig.run_segments(20)
    rig.submit(Prompt("night", how="cut"))
    rig.run_segments(5)
    assert rig.segments()[-1].late_total == 0
    assert all(b.due_s - a.due_s == pytest.approx(SEGMENT_S) for a, b in pairwise(rig.segments()))


def test_a_stall_is_counted_once_and_playout_goes_on_from_there() -> None:
    rig = Rig(delay_s=0.02)
    rig.open()
    rig.run(3.0)
    before = rig.segments()[-1]
    rig.clock.advance(7.0)
    rig.run(3.0)
    after = [s for s in rig.segments() if s.segment > before.segment]
    assert after[0].late_total == after[-1].late_total == 1
    assert after[0].due_s > before.due_s + 6.0
    assert all(b.due_s - a.due_s == pytest.approx(SEGMENT_S) for a, b in pairwise(after))


def test_a_paused_session_makes_nothing_takes_controls_and_goes_on_without_being_late() -> None:
    rig = Rig(delay_s=0.01)
    rig.open(prompt="a red fox")
    rig.run(2.0)
    rig.submit(Pause())
    rig.run(0.1)
    made = len(rig.segments())
    assert rig.infos()[-1].paused
    rig.run(60.0)
    rig.submit(Prompt("night"))
    rig.run(60.0)
    assert len(rig.segments()) == made
    assert [r.status for r in rig.receipts()] == ["applied", "applied"]
    resumed_s = rig.clock()
    rig.submit(Resume())
    rig.run(2.0)
    after = rig.segments()[made:]
    assert after[0].segment == made == rig.receipts()[-1].segment
    assert after[0].due_s == pytest.approx(resumed_s + 0.02 + rig.engine.config.late_margin_s)
    assert after[-1].late_total == 0
    assert not rig.infos()[-1].paused


def test_pausing_for_a_moment_does_not_show_two_segments_at_once() -> None:
    rig = Rig()
    rig.open()
    rig.run_segments(2)
    rig.submit(Pause())
    rig.engine.step()
    rig.submit(Resume())
    rig.run_segments(2)
    assert all(b.due_s - a.due_s == pytest.approx(SEGMENT_S) for a, b in pairwise(rig.segments()))


def test_an_unwatched_session_stops_after_the_grace_period_and_goes_on_where_it_was() -> None:
    def run(pause_s: float) -> list[bytes]:
        rig = Rig(config=RuntimeConfig(idle_grace_s=2.0))
        rig.open()
        rig.run(3.0)
        rig.engine.set_watched("s", False)
        rig.run(1.9)
        rig.engine.set_watched("s", True)  # a viewer who reloads the page costs nothing
        rig.run(1.1)
        assert len(rig.segments()) == 13
        rig.engine.set_watched("s", False)
        rig.run(pause_s)
        stopped = len(rig.segments())
        assert stopped == 13 + (0 if not pause_s else 4)
        assert rig.engine.step() is None or not pause_s  # nothing to wait for
        rig.engine.set_watched("s", True)
        rig.run_segments(20 - stopped)
        assert rig.segments()[-1].late_total == 0
        return frames(rig.segments())

    assert run(0.0) == run(3600.0)


@pytest.mark.parametrize("unwatched_before", [False, True])
def test_a_session_that_is_held_stops_without_grace_and_goes_on_where_it_was(unwatched_before: bool) -> None:
    rig = Rig(config=RuntimeConfig(idle_grace_s=2.0))
    rig.open()
    rig.run(3.0)
    if unwatched_before:
        rig.engine.set_watched("s", False)
    made = len(rig.segments())
    rig.engine.set_watched("s", False, throttled=True)
    rig.run(10.0)
    assert len(rig.segments()) == made
    rig.engine.set_watched("s", True)
    rig.run_segments(2)
    assert [s.segment for s in rig.segments()] == list(range(made + 2))


def test_a_session_that_nobody_ever_watches_makes_its_first_frames_and_stops() -> None:
    rig = Rig(config=RuntimeConfig(idle_grace_s=1.0))
    rig.engine.open(OpenSession("s", "a fox", 1))
    rig.run(100.0)
    assert 1 <= len(rig.segments()) <= 4


def test_under_overload_everybody_gets_the_same_share() -> None:
    rig = Rig(delay_s=0.1, spec=TINY_SPEC, config=RuntimeConfig(max_sessions=8, max_batch=1))
    names = [f"s{n}" for n in range(5)]
    for name in names:
        rig.open(name)
    rig.run(20.0)
    counts = [len(rig.segments(name)) for name in names]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) > 90


# ---- admission and failure ----


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


def test_the_state_of_every_session_has_the_size_that_the_engine_says() -> None:
    rig = Rig()
    rig.open()
    rig.run_segments(12)
    rig.submit(Prompt("night", how="cut"))
    rig.run_segments(12)
    assert {i.state_bytes for i in rig.infos()} == {rig.engine.state_bytes}
    assert rig.engine.warm_up() >= 0
