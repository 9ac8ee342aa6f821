"""The engine: steering, receipts, pacing and isolation, stepped by hand on a clock that stands still."""

from __future__ import annotations

import re

import numpy as np
import pytest

from engine.types import (
    Action,
    Image,
    Prompt,
    Reset,
    SegmentReady,
)
from tests.engine.runtime.device.frames import frames
from tests.rigs.engine.fakes import Rig


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


def test_the_state_of_every_session_has_the_size_that_the_engine_says() -> None:
    rig = Rig()
    rig.open()
    rig.run_segments(12)
    rig.submit(Prompt("night", how="cut"))
    rig.run_segments(12)
    assert {i.state_bytes for i in rig.infos()} == {rig.engine.state_bytes}
    assert rig.engine.warm_up() >= 0
