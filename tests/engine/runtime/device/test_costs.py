"""What turns take: learning, guessing between batch sizes, noticing one that hangs."""

from __future__ import annotations

import pytest

from engine.runtime.device.costs import Costs, Sample, between, learned
from engine.runtime.device.scheduler import SegmentStage
from tests.rigs.engine.fakes import ManualClock


def test_a_first_call_that_sets_the_library_up_is_forgotten() -> None:
    assert learned(learned(None, 40.0), 0.1) == Sample(0.1, 1)
    assert learned(learned(None, 0.12), 0.1) == Sample(0.11, 2)


def test_a_change_is_followed_and_a_stall_hardly_counts() -> None:
    sample = None
    for _ in range(50):
        sample = learned(sample, 0.1)
    assert sample is not None
    assert learned(sample, 30.0).mean_s == pytest.approx(0.12)
    for _ in range(60):
        sample = learned(sample, 0.2)
    assert sample.mean_s == pytest.approx(0.2, rel=0.01)


def test_between_batch_sizes_is_interpolated_and_beyond_them_rows_cost_as_much() -> None:
    known = {2: 0.3, 4: 0.5}
    assert between({}, 1) is None
    assert between(known, 1) == 0.3
    assert between(known, 2) == 0.3
    assert between(known, 3) == pytest.approx(0.4)
    assert between(known, 8) == pytest.approx(1.0)


def test_batch_sizes_that_are_not_tried_follow_those_that_are() -> None:
    costs = Costs(ManualClock())
    for rows in (1, 1, 4, 4):
        costs.add(SegmentStage.DENOISE, rows, 0.1 * rows)
    costs.add(SegmentStage.DECODE, 4, 0.3)
    for _ in range(60):
        costs.add(SegmentStage.DENOISE, 1, 0.2)
    assert costs.seconds(SegmentStage.DENOISE, 4) == pytest.approx(0.8, rel=0.01)
    assert costs.seconds(SegmentStage.DECODE, 4) == 0.3
    for n in range(300):  # and noise does not add up
        for rows in (1, 4):
            costs.add(SegmentStage.DENOISE, rows, 0.1 * rows * (1.1 if n % 2 else 0.9))
    assert costs.seconds(SegmentStage.DENOISE, 1) == pytest.approx(0.1, rel=0.1)
    assert costs.seconds(SegmentStage.DENOISE, 4) == pytest.approx(0.4, rel=0.1)


def test_turns_are_measured_and_one_that_fails_teaches_nothing() -> None:
    clock = ManualClock()
    costs = Costs(clock)
    with costs.measured(SegmentStage.DECODE, 2) as took_s:
        clock.advance(0.25)
        assert costs.running_s(clock()) == 0.25
    assert took_s() == 0.25
    assert costs.seconds(SegmentStage.DECODE, 2) == 0.25

    def fail() -> None:
        with costs.measured(SegmentStage.DECODE, 2):
            clock.advance(1.0)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert costs.seconds(SegmentStage.DECODE, 2) == 0.25
    assert costs.running_s(clock()) == 0.0
    assert costs.busy_s == 1.25
    assert costs.seconds(SegmentStage.DENOISE, 1) is None


@pytest.mark.parametrize(("usual_s", "limit_s"), [(0.1, 1.5), (2.0, 6.0)])
def test_a_call_hangs_after_three_segments_and_three_times_the_longest_usual_one(
    usual_s: float, limit_s: float
) -> None:
    clock = ManualClock()
    costs = Costs(clock)
    for stage, share in ((SegmentStage.DENOISE, 1.0), (SegmentStage.DECODE, 0.5)):
        costs.add(stage, 1, share * usual_s)
    assert costs.hangs_for_s(clock(), segment_s=0.5) is None
    with costs.measured(SegmentStage.DECODE, 1):
        clock.advance(limit_s)
        assert costs.hangs_for_s(clock(), segment_s=0.5) is None
        clock.advance(0.01)
        assert costs.hangs_for_s(clock(), segment_s=0.5) == pytest.approx(limit_s + 0.01)
    assert costs.hangs_for_s(clock(), segment_s=0.5) is None


def test_steps_of_several_sizes_are_measured_apart_and_counted_as_often_as_they_come() -> None:
    """A small call must not make the device look fast, nor a large one slow: capacity would swing."""
    costs = Costs(ManualClock(), {"denoise_0": 2, "denoise_1": 1})
    costs.add(SegmentStage.DENOISE, 1, 0.1, "denoise_0")
    assert costs.seconds(SegmentStage.DENOISE, 1) is None
    for _ in range(20):
        costs.add(SegmentStage.DENOISE, 1, 0.1, "denoise_0")
        costs.add(SegmentStage.DENOISE, 1, 0.7, "denoise_1")
        assert costs.seconds(SegmentStage.DENOISE, 1) == pytest.approx((2 * 0.1 + 0.7) / 3)
