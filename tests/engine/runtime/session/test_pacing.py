"""Pacing: pure functions of plain numbers."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest

from engine.runtime.session.pacing import (
    EASE,
    HEADROOM,
    Pace,
    Playout,
    Took,
    deadline_s,
    guessed,
    lead_s,
    learned,
    paced,
    resumed,
    shown,
    speed,
    stalls,
    turn_s,
    wanted_s,
)

SEGMENT_S, MARGIN_S = 0.5, 0.03
LEAST = 0.25  # the lowest rate


def test_the_first_segment_is_shown_as_soon_as_it_is_ready_and_is_not_late() -> None:
    result = shown(Playout(since_s=1.0), 4.0, SEGMENT_S, MARGIN_S)
    assert result.due_s == 4.03
    assert result.ahead_s == 0
    assert result.playout == Playout(4.0, 4.53, 0)


def test_a_segment_in_time_follows_the_one_before_without_a_gap() -> None:
    result = shown(Playout(1.0, 5.0), 4.8, SEGMENT_S, MARGIN_S)
    assert result.due_s == 5.0
    assert result.ahead_s == pytest.approx(0.2)
    assert result.playout == Playout(4.8, 5.5, 0)


def test_a_segment_ready_at_the_very_end_is_in_time() -> None:
    assert shown(Playout(1.0, 5.0), 5.0, SEGMENT_S, MARGIN_S).playout == Playout(5.0, 5.5, 0)


def test_a_late_segment_re_anchors_is_counted_and_nothing_ever_fast_forwards() -> None:
    playout, due = Playout(0.0, 5.0), []
    for ready_s in (7.0, 7.1, 7.2, 9.0):
        result = shown(playout, ready_s, SEGMENT_S, MARGIN_S)
        playout = result.playout
        due.append(result.due_s)
    assert due == pytest.approx([7.03, 7.53, 8.03, 9.03])
    assert playout.late_total == 2
    assert all(b - a >= SEGMENT_S - 1e-9 for a, b in pairwise(due))


def test_the_next_segment_starts_one_lead_before_playout_runs_out() -> None:
    assert wanted_s(Playout(since_s=1.0, end_s=5.0), 0.2) == pytest.approx(4.8)
    assert wanted_s(Playout(since_s=4.9, end_s=5.0), 0.2) == 4.9
    assert wanted_s(Playout(since_s=3.0), 0.2) == 3.0


def test_a_first_segment_competes_as_if_it_had_one_leads_time() -> None:
    assert deadline_s(Playout(since_s=3.0), 0.2) == pytest.approx(3.2)
    assert deadline_s(Playout(since_s=3.0, end_s=3.1), 0.2) == 3.1


def test_lead_follows_what_segments_take_within_bounds() -> None:
    def lead(took: Took) -> float:
        return lead_s(took, margin=1.5, least_s=0.05, most_s=2.0)

    took = Took()
    assert lead(took) == 0.05
    for _ in range(100):
        took = learned(took, 0.2)
    assert took.samples == 100
    assert lead(took) == pytest.approx(0.3, rel=0.01)
    spiky = learned(took, 1.0)
    assert 0.3 < lead(spiky) < 1.5
    assert lead(learned(took, 1000.0)) == 2.0


def test_resuming_lets_the_queue_play_out_or_re_anchors() -> None:
    assert resumed(Playout(1.0, 5.0, 3), 4.0) == Playout(4.0, 5.0, 3)
    re_anchored = resumed(Playout(1.0, 5.0, 3), 60.0)
    assert re_anchored == Playout(60.0, None, 3)
    assert shown(re_anchored, 60.1, SEGMENT_S, MARGIN_S).playout.late_total == 3


# ---- slower than playback ----


def run(samples_s: Iterable[float], pace: Pace | None = None) -> list[Pace]:
    paces = [pace or Pace()]
    for sample_s in samples_s:
        paces.append(paced(paces[-1], sample_s, SEGMENT_S, LEAST))
    return paces[1:]


def test_a_segment_at_half_rate_is_shown_for_twice_as_long() -> None:
    result = shown(Playout(1.0, 5.0), 4.8, SEGMENT_S, MARGIN_S, rate=0.5)
    assert (result.due_s, result.playout.end_s) == (5.0, 6.0)


def test_a_hold_lasts_at_least_as_long_as_asked_and_only_follows_a_late_segment() -> None:
    late = shown(Playout(1.0, 5.0), 5.2, SEGMENT_S, MARGIN_S, stall_s=3.0)
    assert (late.due_s, late.playout.late_total) == (8.0, 1)
    assert shown(Playout(1.0, 5.0), 9.0, SEGMENT_S, MARGIN_S, stall_s=3.0).due_s == 9.03
    assert shown(Playout(1.0, 5.0), 4.9, SEGMENT_S, MARGIN_S, stall_s=3.0).due_s == 5.0
    assert shown(Playout(1.0), 4.9, SEGMENT_S, MARGIN_S, stall_s=3.0).due_s == pytest.approx(4.93)


def test_in_turn_the_longest_without_a_segment_goes_first() -> None:
    slow, slower = Playout(since_s=7.0, end_s=8.0), Playout(since_s=6.0, end_s=12.0)
    assert turn_s(slower, SEGMENT_S) < turn_s(slow, SEGMENT_S)
    assert deadline_s(slower, 0.2) > deadline_s(slow, 0.2)  # by which it would starve


@pytest.mark.parametrize("segment_time_s", [0.01, 0.1, 0.4, 0.49, 0.5])
def test_a_device_that_keeps_up_is_never_slowed(segment_time_s: float) -> None:
    assert {p.rate for p in run([segment_time_s] * 50)} == {1.0}


@pytest.mark.parametrize("stall_s", [0.6, 7.0, 1e6])
@pytest.mark.parametrize("usual_s", [0.1, 0.45])
def test_one_slow_segment_is_an_accident(usual_s: float, stall_s: float) -> None:
    samples_s = ([usual_s] * 9 + [stall_s]) * 5
    assert {p.rate for p in run(samples_s)} == {1.0}


def test_a_first_segment_may_be_a_little_slower_but_not_much() -> None:
    assert run([0.6])[0].rate == 1.0
    assert run([1.0])[0].rate == pytest.approx(0.5 / HEADROOM)


@pytest.mark.parametrize("was_s", [0.1, 0.3])
def test_the_second_slow_segment_in_a_row_begins_slow_motion_at_once_at_the_right_rate(was_s: float) -> None:
    paces = run([was_s] * 20 + [1.0] * 30)
    assert paces[20].rate == 1.0
    assert [p.rate for p in paces[21:]] == pytest.approx([0.5 / HEADROOM] * 29, rel=0.15)
    assert paces[-1].rate == pytest.approx(0.5 / HEADROOM, rel=0.03)
    assert speed(paces[-1], SEGMENT_S) == pytest.approx(0.5, rel=0.01)


def test_a_constant_slow_speed_gives_a_constant_rate_a_little_below_it() -> None:
    rates = {round(p.rate, 9) for p in run([1.0] * 50)}
    assert len(rates) == 1
    assert 0.95 * 0.5 < rates.pop() < 0.5


def test_natural_speed_comes_back_step_by_step_once_the_device_has_caught_up() -> None:
    paces = run([1.0] * 30 + [0.2] * 30)
    rates = [p.rate for p in paces[29:]]
    assert all(1 <= b / a <= EASE + 1e-9 or b == 1 for a, b in pairwise(rates))
    assert rates[12] == rates[-1] == 1.0


def test_slow_motion_does_not_flicker_on_and_off_where_speed_is_about_one() -> None:
    """Between beginning (slower than playback) and ending (faster, with room) nothing changes."""
    assert run([0.5] * 30, Pace(0.5, 0.0, 0.5, 9, rate=0.9))[-1].rate < 1
    assert run([0.5] * 30, Pace(0.5, 0.0, 0.5, 9, rate=1.0))[-1].rate == 1


def test_where_times_vary_the_rate_leaves_room_and_stays_calm() -> None:
    dice = random.Random(1)
    samples_s = [dice.uniform(0.7, 1.3) for _ in range(500)]
    rates = [p.rate for p in run(samples_s)][20:]
    assert sum(SEGMENT_S / r for r in rates) > sum(samples_s[20:])  # on the whole it keeps up
    assert 0.35 < min(rates) < max(rates) < 0.5
    changes = [abs(b / a - 1) for a, b in pairwise(rates)]
    assert sum(changes) / len(changes) < 0.04


def test_below_the_least_rate_playout_stalls_and_above_it_does_not() -> None:
    hopeless, slow = run([15.0] * 9)[-1], run([1.0] * 9)[-1]
    assert hopeless.rate == LEAST
    assert stalls(hopeless, SEGMENT_S, LEAST)
    assert not stalls(slow, SEGMENT_S, LEAST)
    assert not stalls(run([0.1])[-1], SEGMENT_S, 1.0)
    assert not stalls(Pace(), SEGMENT_S, LEAST)


def test_times_of_zero_and_guesses_are_finite() -> None:
    assert run([0.0, 0.0, 0.0])[-1].rate == 1.0
    assert speed(Pace(), SEGMENT_S) == pytest.approx(500)
    assert guessed(0.0, SEGMENT_S, LEAST) == Pace()
    assert guessed(1.0, SEGMENT_S, LEAST).rate == pytest.approx(0.5 / HEADROOM)
    assert guessed(60.0, SEGMENT_S, LEAST).rate == LEAST
    assert paced(guessed(60.0, SEGMENT_S, LEAST), 0.1, SEGMENT_S, LEAST).rate == 1.0  # a guess is no measure
