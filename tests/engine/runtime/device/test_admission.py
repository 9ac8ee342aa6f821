"""Who may come in: capacity from measured turns, a word for who may not, and what becomes of the idle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.backends.fake import FakeBackend
from engine.config import RuntimeConfig
from engine.errors import Full
from engine.runtime.device.admission import capacity, retry_after_s, row_s, taken, worthwhile
from engine.runtime.device.scheduler import SegmentStage
from engine.types import Capacity, Pause, Resume, RuntimeEvent, SegmentReady
from tests.rigs.engine.fakes import TINY_SPEC, Rig

SEGMENT_S = TINY_SPEC.segment_s
LIKES_BATCHES = {"denoise": (0.030, 0.005), "decode": (0.010, 0.005), "memorize": (0.005, 0.001)}


def announced(rig: Rig) -> list[Capacity]:
    return [e for e in rig.events if isinstance(e, Capacity)]


def rig_of(costs: dict[str, tuple[float, float]] = LIKES_BATCHES, own_s: float = 0.0, **config: Any) -> Rig:
    """Warm: its engine has measured what the device takes. A segment takes `own_s` of the thread's time
    beside the device's."""

    def hear(event: RuntimeEvent) -> None:
        if isinstance(event, SegmentReady):
            rig.clock.advance(own_s)

    def sleep(seconds: float) -> None:
        rig.clock.advance(seconds)

    backend = FakeBackend(TINY_SPEC, costs=costs, sleep=sleep)
    settings = replace(RuntimeConfig(max_sessions=40), **config)
    rig = Rig(backend, spec=TINY_SPEC, config=settings, on_event=hear)
    rig.engine.warm_up()
    return rig


def fill(rig: Rig, most: int = 40) -> int:
    """Open sessions a little apart until one is refused; how many there are."""
    for n in range(most):
        try:
            rig.open(f"s{n}")
        except Full:
            return n
        rig.run(0.13)
    return most


# ---- the policy ----


def test_capacity_is_what_fits_into_the_promised_share_at_the_batches_that_are_used() -> None:
    def turns(stage: SegmentStage, rows: int) -> float:
        return {SegmentStage.PREPARE: 0.0, SegmentStage.DENOISE: 0.030 + 0.005 * rows}.get(
            stage, 0.010 + 0.005 * rows
        )

    def of(max_load: float, limit: int, most: int = 50) -> int:
        limits = dict.fromkeys(SegmentStage, limit)
        return capacity(turns, limits, steps=2, segment_s=0.5, max_load=max_load, most=most)

    assert row_s(turns, dict.fromkeys(SegmentStage, 1), 2, 9) == pytest.approx(0.1)
    assert row_s(turns, dict.fromkeys(SegmentStage, 4), 2, 9) == pytest.approx(2 * 0.05 / 4 + 2 * 0.02 / 2)
    assert (of(1.0, 1), of(1.0, 4), of(0.8, 1), of(0.8, 4)) == (5, 11, 4, 8)
    assert of(1.0, 4, most=7) == 7
    limits = dict.fromkeys(SegmentStage, 4)
    assert capacity(turns, limits, steps=2, segment_s=0.5, max_load=1.0, most=50, own_s=0.005) == 10  # not 11
    assert of(0.01, 4) == 1


def test_of_a_device_that_was_never_measured_all_is_hoped() -> None:
    limits = dict.fromkeys(SegmentStage, 4)
    assert capacity(lambda stage, rows: None, limits, steps=2, segment_s=0.5, max_load=1, most=9) == 9


def test_a_larger_batch_must_be_worth_its_wait() -> None:
    def turns(stage: SegmentStage, rows: int) -> float:
        return {1: 0.10, 2: 0.19, 4: 0.20, 8: 0.39}[rows]

    assert worthwhile(turns, SegmentStage.DENOISE, [1]) == 1
    assert worthwhile(turns, SegmentStage.DENOISE, [1, 2]) == 1  # a twentieth cheaper, twice as long
    assert worthwhile(turns, SegmentStage.DENOISE, [1, 2, 4, 8]) == 4


def test_of_many_idle_sessions_some_are_expected_back() -> None:
    assert [taken(2, idle, 0.25) for idle in (0, 3, 4, 9)] == [2, 2, 3, 4]


def test_who_is_refused_is_told_when_a_place_may_be_free() -> None:
    assert retry_after_s([7.2, 3.1]) == 4
    assert retry_after_s([0.01]) == 1
    assert retry_after_s([500.0]) == 30
    assert retry_after_s([]) == 10


# ---- in the engine ----


@pytest.mark.parametrize(("own_s", "least", "most"), [(0.0, 13, 19), (0.012, 8, 13)])
def test_those_who_are_let_in_keep_their_frame_rate_and_the_next_one_is_refused(
    own_s: float, least: int, most: int
) -> None:
    """Also where the runtime itself takes a part of the time: publishing, schedules, whatever Python does."""
    rig = rig_of(own_s=own_s)
    places = fill(rig)
    assert least <= places <= most
    with pytest.raises(Full, match=f"it serves {places} in real time") as caught:
        rig.open("more")
    assert caught.value.retry_after_s == 10
    rig.run(5.0)
    before = {n: len(rig.segments(f"s{n}")) for n in range(places)}
    rig.run(10.0)
    made = [rig.segments(f"s{n}")[before[n] :] for n in range(places)]
    assert min(map(len, made)) >= 19
    assert {s.rate for segments in made for s in segments} == {1.0}
    late_s = [-s.lead_s for segments in made for s in segments if s.lead_s < 0]
    assert len(late_s) <= 0.02 * sum(map(len, made))
    assert max(late_s, default=0.0) < rig.engine.config.late_margin_s
    rig.engine.close_session("s0")
    rig.open("more")


def test_batches_let_more_in() -> None:
    assert fill(rig_of(max_batch=1)) < fill(rig_of(max_batch=8)) / 3


def test_a_device_that_gains_nothing_by_batches_makes_none() -> None:
    rig = rig_of({"denoise": (0.0, 0.02), "decode": (0.0, 0.01)})
    assert fill(rig) == int(0.85 * SEGMENT_S / (2 * 0.02 + 0.01))
    rig.backend.batches.clear()
    rig.run(3.0)
    assert set(rig.backend.batches) == {1}


def test_a_device_that_is_too_slow_for_one_still_serves_one() -> None:
    rig = rig_of({"denoise": (1.0, 0.0)})
    assert fill(rig) == 1
    assert rig.run_segments(2, "s0")[-1].rate < 1


def test_a_device_that_turns_out_slower_lets_fewer_in_and_tells_so() -> None:
    rig = rig_of()
    rig.open()
    rig.run(5.0)
    before = rig.engine._admission.capacity
    rig.backend.costs = {role: (3 * call, 3 * row) for role, (call, row) in LIKES_BATCHES.items()}
    rig.run(60.0)
    after = announced(rig)[-1]
    assert after.sessions < before / 2
    assert after.open == 1
    assert after.load == pytest.approx((2 * 0.105 + 0.045 + 0.018) / SEGMENT_S, rel=0.1)


def test_capacity_is_told_when_it_changes_and_now_and_then() -> None:
    rig = rig_of({"denoise": (0.0, 0.02)})
    rig.open("a")
    rig.run(35.0)
    rig.open("b")
    rig.run(1.0)
    rig.engine.close_session("a")
    rig.run(1.0)
    assert [e.open for e in announced(rig)] == [1, 1, 1, 1, 2, 1]
    assert {e.sessions for e in announced(rig)} == {int(0.85 * SEGMENT_S / 0.04)}


def test_the_places_that_sleeping_sessions_take_are_told_too() -> None:
    """Without being asked: a device thread that has nothing to do reports it before it sleeps."""
    rig = rig_of({"denoise": (0.0, 0.01)}, idle_grace_s=2.0)
    for n in range(5):
        rig.open(f"s{n}")
    rig.run(1.0)
    assert announced(rig)[-1].taken == 5
    rig.submit(Pause(), session="s0")
    rig.run(1.0)
    assert announced(rig)[-1].taken == 4
    for n in range(1, 5):
        rig.engine.set_watched(f"s{n}", False)
    rig.run(1.0)
    assert announced(rig)[-1].taken == 4  # in their grace period
    rig.run(3.0)
    assert (announced(rig)[-1].open, announced(rig)[-1].taken) == (5, 1)


def test_who_is_paused_or_unwatched_takes_no_place_as_long_as_they_are_few() -> None:
    rig = rig_of({"denoise": (0.0, 0.05)}, idle_grace_s=2.0)  # four places
    for name in "abcd":
        rig.open(name)
    with pytest.raises(Full):
        rig.open("e")
    rig.submit(Pause(), session="a")
    rig.run(0.5)
    rig.open("e")
    rig.engine.set_watched("b", False)
    with pytest.raises(Full) as caught:  # its grace period is not over yet
        rig.open("f")
    assert caught.value.retry_after_s == 2
    rig.run(2.1)
    rig.open("f")


def test_when_too_many_idle_sessions_come_back_all_are_shown_slowly_alike() -> None:
    """Slow motion for everybody is better than a session that its owner cannot go back to."""
    rig = rig_of({"denoise": (0.0, 0.05)})
    for name in "abcd":
        rig.open(name)
    for name in "abc":
        rig.submit(Pause(), session=name)
    rig.run(1.0)
    for name in "efg":
        rig.open(name)
    rig.run(1.0)
    for name in "abc":
        rig.submit(Resume(), session=name)
    rig.run(25.0)
    with pytest.raises(Full):
        rig.open("h")
    made = [len([s for s in rig.segments(name) if s.due_s > rig.clock() - 15.0]) for name in "abcdefg"]
    assert max(made) - min(made) <= 2
    slow = rig.segments("a")[-1]
    assert 0.5 < slow.rate < 1
    for name in "efg":
        rig.engine.close_session(name)
    rig.run(10.0)
    assert rig.segments("a")[-1].rate == 1.0


def test_after_memory_ran_out_batches_are_smaller_and_nobody_new_comes_in_for_a_while() -> None:
    rig = rig_of({"denoise": (0.0, 0.001)}, max_batch=8)
    rig.engine._turns.limits = dict.fromkeys(SegmentStage, 8)
    rig.backend.most_rows = 3
    for n in range(8):
        rig.open(f"s{n}")
    rig.run(5.0)
    assert not rig.closed()
    assert max(rig.backend.batches[-20:]) <= 2
    with pytest.raises(Full, match="out of memory") as caught:
        rig.open("more")
    assert 20 <= caught.value.retry_after_s <= 30
    rig.clock.advance(30.0)
    rig.open("more")
    assert rig.run_segments(3, "more")


def test_where_there_is_no_memory_for_one_that_session_ends_and_the_engine_lives() -> None:
    rig = Rig(spec=TINY_SPEC)
    rig.open("a")
    rig.run_segments(2, "a")
    rig.backend.most_rows = 0
    rig.run(2.0)
    assert [(e.session, e.code) for e in rig.closed()] == [("a", "out_of_memory")]
    rig.backend.most_rows = None
    rig.run(31.0)
    rig.clock.advance(31.0)
    rig.open("b")
    assert rig.run_segments(2, "b")


def test_warming_up_finds_the_largest_batch_that_fits() -> None:
    def sleep(seconds: float) -> None:
        rig.clock.advance(seconds)

    backend = FakeBackend(TINY_SPEC, costs={"denoise": (0.1, 0.0)}, most_rows=5, sleep=sleep)
    rig = Rig(backend, spec=TINY_SPEC)
    rig.engine.warm_up()
    assert rig.engine._turns.limits[SegmentStage.DENOISE] == 4
    rig.open("s")
    assert rig.run_segments(1, "s")
