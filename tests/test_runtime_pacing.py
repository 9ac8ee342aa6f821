"""Pacing and scheduling: pure functions of plain numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.runtime.pacing import (
    Playout,
    Took,
    deadline_s,
    lead_s,
    learned,
    resumed,
    shown,
    wanted_s,
)
from engine.runtime.scheduler import Candidate, next_wake, pick

SEGMENT_S, MARGIN_S = 0.5, 0.03


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


def test_pick_takes_the_earliest_deadlines_that_are_due() -> None:
    candidates = [
        Candidate("far", 0.0, 9.0, 2),
        Candidate("not yet", 2.0, 3.0, 2),
        Candidate("near", 1.0, 4.0, 2),
        Candidate("next", 0.5, 5.0, 2),
    ]
    assert pick(candidates, 1.0, 2) == ["near", "next"]
    assert pick(candidates, 1.0, 9) == ["near", "next", "far"]
    assert pick(candidates, -1.0, 9) == []
    assert pick([], 0.0, 9) == []


def test_pick_batches_only_sessions_with_as_many_steps_as_the_most_urgent() -> None:
    candidates = [Candidate("a", 0, 1, 2), Candidate("new", 0, 2, 4), Candidate("b", 0, 3, 2)]
    assert pick(candidates, 0.0, 4) == ["a", "b"]
    assert pick(candidates[1:], 0.0, 4) == ["new"]


def test_nobody_starves_when_there_is_more_work_than_time() -> None:
    ran = dict.fromkeys("abcdefg", 0)
    deadlines = {name: float(i) for i, name in enumerate(ran)}
    steps = {name: 4 if name == "d" else 2 for name in ran}
    for turn in range(700):
        now = float(turn)
        for name in pick([Candidate(n, 0.0, deadlines[n], steps[n]) for n in ran], now, 2):
            ran[name] += 1
            deadlines[name] = now + 10
    assert min(ran.values()) > 0.7 * max(ran.values())


def test_next_wake_is_when_the_first_becomes_due() -> None:
    assert next_wake([Candidate("a", 7.0, 9.0, 2), Candidate("b", 5.0, 9.5, 2)]) == 5.0
    assert next_wake([]) is None
