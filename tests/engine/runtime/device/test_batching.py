"""Continuous batching in the engine: who joins, who is dropped, and that nobody's picture depends on it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from engine.backends.fake import FakeBackend
from engine.backends.registry import load_backend
from engine.config import RuntimeConfig
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.state import SessionState
from engine.types import Action, Prompt, SegmentReady
from tests.rigs.engine.fakes import TINY_SPEC, Rig
from tests.rigs.waiting import LONG_S


def stepping(then: Callable[[Rig, int], None]) -> Rig:
    """A rig on which `then` is called in every denoise step, with the number of the step."""

    def sleep(seconds: float) -> None:
        rig.clock.advance(seconds)
        then(rig, rig.backend.calls["denoise"])

    rig = Rig(FakeBackend(TINY_SPEC, delay_s=0.01, sleep=sleep), spec=TINY_SPEC)
    return rig


def frames(segments: list[SegmentReady]) -> list[bytes]:
    return [segment.frames.tobytes() for segment in segments]


def test_who_comes_in_mid_segment_joins_at_the_next_step() -> None:
    def then(rig: Rig, step: int) -> None:
        if step == 2:
            rig.open("late")

    rig = stepping(then)
    rig.open("early")
    rig.run_segments(1, "late")
    assert rig.backend.batches[:6] == [1, 1, 2, 2, 1, 1]  # four steps each
    assert rig.backend.calls["decode"] == 2


def test_sessions_that_are_due_together_share_every_stage() -> None:
    rig = Rig(spec=TINY_SPEC, delay_s=0.01)
    for n in range(4):
        rig.open(f"s{n}")
    rig.run_segments(1, "s3")
    assert rig.backend.batches == [4, 4, 4, 4]
    calls = rig.backend.calls
    assert (calls["decode"], calls["memorize"], calls["squeeze"], calls["encode_text"]) == (1, 1, 1, 1)


@pytest.mark.parametrize("max_batch", [1, 2, 3, 8])
def test_what_is_shown_does_not_depend_on_company_or_batch_size(max_batch: int) -> None:
    def watch(others: int, max_batch: int) -> list[bytes]:
        rig = Rig(spec=TINY_SPEC, delay_s=0.02, config=RuntimeConfig(max_batch=max_batch))
        rig.open("s", "a red fox", seed=3)
        for n in range(others):
            rig.run(0.11)
            rig.open(f"other{n}", f"city number {n}", seed=n)
        rig.run_segments(max(0, 3 - len(rig.segments())))
        rig.submit(Action("right"))
        rig.submit(Prompt("a blue fox"))
        rig.run_segments(5)
        return frames(rig.segments()[:3]) + frames([s for s in rig.segments() if s.segment > 4])[:2]

    assert len(watch(0, 1)) == 5
    assert watch(4, max_batch)[:3] == watch(0, 1)[:3]


def test_a_draft_of_an_epoch_that_is_over_is_dropped_before_its_next_step() -> None:
    def then(rig: Rig, step: int) -> None:
        if step == TINY_SPEC.first_steps + 1:  # the second segment has begun
            rig.submit(Prompt("night", how="cut", when="now"))

    rig = stepping(then)
    rig.open()
    rig.run_segments(2)
    first, second = rig.segments()
    assert (first.epoch, second.epoch) == (0, 1)
    steps = TINY_SPEC.first_steps + 1 + TINY_SPEC.first_steps  # one of them for nothing
    assert rig.backend.calls["denoise"] == steps


def test_a_control_for_the_next_segment_leaves_the_one_in_the_making_alone() -> None:
    def then(rig: Rig, step: int) -> None:
        if step == TINY_SPEC.first_steps + 1:
            rig.submit(Prompt("night"))

    rig, undisturbed = stepping(then), stepping(lambda rig, step: None)
    for each in (rig, undisturbed):
        each.open()
        each.run_segments(3)
    assert frames(rig.segments()[:2]) == frames(undisturbed.segments()[:2])
    assert frames(rig.segments()[2:3]) != frames(undisturbed.segments()[2:3])
    assert [(r.status, r.segment) for r in rig.receipts()] == [("applied", 2)]


def test_a_session_that_is_closed_in_mid_segment_costs_no_further_step() -> None:
    def then(rig: Rig, step: int) -> None:
        if step == 2:
            rig.engine.close_session("s")

    rig = stepping(then)
    rig.open()
    rig.run(5.0)
    assert rig.backend.calls["denoise"] == 2
    assert "decode" not in rig.backend.calls
    assert not rig.segments()
    assert not rig.engine._turns.work()


def test_a_call_that_hangs_is_seen_from_another_thread() -> None:
    entered, let_go = threading.Event(), threading.Event()

    def sleep(_: float) -> None:
        entered.set()
        assert let_go.wait(LONG_S)

    rig = Rig(FakeBackend(TINY_SPEC, hang_after=1, hang_s=600.0, sleep=sleep), spec=TINY_SPEC)
    rig.open()
    thread = threading.Thread(target=rig.run_segments, args=(1,))
    thread.start()
    assert entered.wait(LONG_S)
    assert rig.engine.hangs_for_s(rig.clock()) is None
    rig.clock.advance(3 * TINY_SPEC.segment_s + 0.01)
    assert rig.engine.hangs_for_s(rig.clock()) == pytest.approx(3 * TINY_SPEC.segment_s + 0.01)
    let_go.set()
    thread.join(LONG_S)
    assert rig.engine.hangs_for_s(rig.clock()) is None
    assert rig.segments()


def test_the_built_in_model_shows_the_same_in_a_batch_of_mixed_steps_as_alone() -> None:
    """docs/architecture.md states the tolerance: ONNX Runtime on a CPU needs none, but libraries may add in
    another order for another batch size."""
    backend = load_backend("onnxruntime")
    try:
        generator = Generator(backend)
        states = [SessionState.zeros(backend.spec) for _ in range(2)]
        for n, state in enumerate(states):
            generator.conditioner.start_scene(state, ("a red fox", "a city at night")[n], seed=n, scene=0)
        alone = [generator.begin(Job(state, 1)) for state in states]
        together = [generator.begin(Job(state, 1)) for state in states]
        for draft in alone:
            for _ in range(2):
                generator.step([draft])
        generator.step(together[:1])
        generator.step(together)
        generator.step(together[1:])
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_allclose(b.x, a.x, rtol=0, atol=1e-4)
        generator.decode(together)
        for draft in alone:
            generator.decode([draft])
        for a, b in zip(alone, together, strict=True):
            assert a.frames is not None
            assert b.frames is not None
            np.testing.assert_allclose(b.frames.astype(int), a.frames, rtol=0, atol=1)
    finally:
        backend.close()
