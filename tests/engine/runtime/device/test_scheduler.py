"""Who goes next: deadlines, company, fairness, on plain numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from engine.runtime.device.scheduler import NextStage, SegmentStage, Turn, next_wake, pick

PREPARE, DENOISE, DECODE, REMEMBER = SegmentStage


def limits(most: int = 4, **other: int) -> dict[SegmentStage, int]:
    return dict.fromkeys(SegmentStage, most) | {SegmentStage[name]: limit for name, limit in other.items()}


def test_the_earliest_deadline_goes_first_with_whoever_is_at_the_same_stage() -> None:
    work = [
        NextStage("later", DENOISE, 12.0),
        NextStage("first", DENOISE, 10.0),
        NextStage("decoding", DECODE, 11.0),
        NextStage("last", DENOISE, 14.0),
    ]
    assert pick(work, 9.0, limits()) == Turn(DENOISE, ["first", "later", "last"])
    assert pick(work, 9.0, limits(2)) == Turn(DENOISE, ["first", "later"])
    assert pick(work, 9.0, limits(4, DENOISE=1)) == Turn(DENOISE, ["first"])


def test_of_two_that_are_as_urgent_the_one_that_is_nearly_done_goes_first() -> None:
    work = [NextStage("a", DENOISE, 10.0), NextStage("b", REMEMBER, 10.0), NextStage("c", DECODE, 10.0)]
    assert pick(work, 9.0, limits()) == Turn(REMEMBER, ["b"])


def test_nothing_is_begun_before_it_is_wanted() -> None:
    work = [NextStage("a", PREPARE, 10.0, wanted_s=9.5), NextStage("b", PREPARE, 10.0, wanted_s=9.8)]
    assert pick(work, 9.4, limits()) is None
    assert next_wake(work) == 9.5
    assert pick(work, 9.5, limits()) == Turn(PREPARE, ["a"])
    assert pick(work, 9.8, limits()) == Turn(PREPARE, ["a", "b"])
    assert next_wake([]) is None


def test_who_is_due_joins_a_denoise_step_that_has_room() -> None:
    running = [NextStage("a", DENOISE, 10.0), NextStage("b", DENOISE, 11.0)]
    due = [NextStage("d", PREPARE, 13.0, 9.0), NextStage("c", PREPARE, 12.0, 9.0)]
    assert pick(running + due, 9.0, limits(4)) == Turn(PREPARE, ["c", "d"])
    assert pick(running + due, 9.0, limits(3)) == Turn(PREPARE, ["c"])
    assert pick(running + due, 9.0, limits(2)) == Turn(DENOISE, ["a", "b"])
    assert pick(running + due, 9.0, limits(4, PREPARE=1)) == Turn(PREPARE, ["c"])


def test_who_is_urgent_takes_the_place_of_who_has_time() -> None:
    work = [
        NextStage("a", DENOISE, 12.0),
        NextStage("b", DENOISE, 11.0),
        NextStage("urgent", PREPARE, 10.0, 9.0),
    ]
    assert pick(work, 9.0, limits(2)) == Turn(PREPARE, ["urgent"])
    work[2] = NextStage("urgent", DENOISE, 10.0)
    assert pick(work, 9.0, limits(2)) == Turn(DENOISE, ["urgent", "b"])


def test_a_picture_that_is_ready_to_be_shown_waits_for_nobody_later() -> None:
    work = [
        NextStage("done", DECODE, 10.0),
        NextStage("a", DENOISE, 10.5),
        NextStage("due", PREPARE, 11.0, 9.0),
    ]
    assert pick(work, 9.0, limits()) == Turn(DECODE, ["done"])


class World:
    """Sessions of `period_s` that always want their next segment one period before its deadline; a turn takes
    `call_s` and `row_s` for each of its rows."""

    def __init__(
        self, sessions: int, *, period_s: float, call_s: float, row_s: float, steps: int = 3
    ) -> None:
        self.period_s, self.call_s, self.row_s, self.steps = period_s, call_s, row_s, steps
        self.now_s = 0.0
        self.deadlines = {f"s{n}": period_s * (1 + n / sessions) for n in range(sessions)}
        self.left: dict[str, list[SegmentStage]] = {}
        self.made: Counter[str] = Counter()
        self.worst_s = 0.0  # how late a segment was
        self.rows: list[int] = []

    def work(self) -> list[NextStage]:
        return [
            NextStage(
                name, self.left[name][0] if name in self.left else PREPARE, end_s, end_s - self.period_s
            )
            for name, end_s in self.deadlines.items()
        ]

    def run(self, until_s: float, most: int) -> None:
        while self.now_s < until_s:
            turn = pick(self.work(), self.now_s, limits(most))
            if turn is None:
                wake_s = next_wake(self.work())
                assert wake_s is not None
                assert wake_s > self.now_s
                self.now_s = wake_s
                continue
            self.now_s += self.call_s + self.row_s * len(turn.sessions)
            if turn.stage is DENOISE:
                self.rows.append(len(turn.sessions))
            for name in turn.sessions:
                stages = self.left.setdefault(name, [PREPARE, *[DENOISE] * self.steps, DECODE, REMEMBER])
                stages.pop(0)
                if not stages:
                    del self.left[name]
                    self.made[name] += 1
                    self.worst_s = max(self.worst_s, self.now_s - self.deadlines[name])
                    self.deadlines[name] = max(self.deadlines[name], self.now_s) + self.period_s


@pytest.mark.parametrize("sessions", [1, 2, 5, 12])
def test_deadlines_are_kept_where_the_device_can_keep_them(sessions: int) -> None:
    """Six turns of 10 ms and 1 ms a row: alone 66 ms a segment, twelve at once 132 ms, of half a second."""
    world = World(sessions, period_s=0.5, call_s=0.010, row_s=0.001)
    world.run(100.0, most=12)
    assert world.worst_s <= 0
    assert min(world.made.values()) >= 195


def test_batches_carry_what_single_turns_cannot() -> None:
    """Twelve sessions at 66 ms take 0.8 s per half second one by one."""
    alone, together = (World(12, period_s=0.5, call_s=0.010, row_s=0.001) for _ in range(2))
    alone.run(50.0, most=1)
    together.run(50.0, most=12)
    assert sum(alone.made.values()) < 0.7 * sum(together.made.values())
    assert max(together.rows) > 2


def test_in_overload_all_are_late_alike_and_nobody_starves() -> None:
    world = World(9, period_s=0.5, call_s=0.030, row_s=0.010)
    world.run(200.0, most=3)
    assert world.worst_s > 0.2
    assert max(world.made.values()) - min(world.made.values()) <= 1


def test_work_in_flight_is_finished_rather_than_piled_up() -> None:
    """However many are due, hardly more are begun than share a step."""
    world, begun = World(40, period_s=0.5, call_s=0.030, row_s=0.010), 0
    for _ in range(400):
        world.run(world.now_s + 0.01, most=4)
        begun = max(begun, len(world.left))
    assert begun <= 4 + 4
