"""Which worker gives a session to which one, and above all when none does."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from server.gateway.balance.policy import (
    AVOID_S,
    OVER_S,
    PROOF_S,
    SETTLE_S,
    SLOW_S,
    BalancePolicy,
    Move,
    WorkerLoad,
)

SLOW = WorkerLoad("w1", capacity=4, playing=6, slow=True)
OVER = replace(SLOW, slow=False)
EMPTY = WorkerLoad("w2", capacity=4, playing=0)
HERE = Move("w1", "w2")


def policy(chance: Callable[[], float] = lambda: 0.0) -> BalancePolicy:
    return BalancePolicy(chance)


def first(loads: list[WorkerLoad], seconds: float = 60.0, by: BalancePolicy | None = None) -> float | None:
    """After how many seconds of these figures a session moves from w1 to w2. None: never."""
    by = by or policy()
    for second in range(int(seconds) + 1):
        if moves := by.moves(loads, float(second)):
            assert moves == [HERE]
            return float(second)
    return None


def test_trouble_has_to_last_and_slow_motion_counts_more_than_figures() -> None:
    assert first([SLOW, EMPTY]) == SLOW_S
    assert first([OVER, EMPTY]) == OVER_S
    by = policy()
    for second in range(60):  # a moment's trouble now and then
        bad = second % 4 in (0, 1)
        assert by.moves([SLOW if bad else replace(SLOW, playing=3, slow=False), EMPTY], float(second)) == []


def test_gateways_wait_for_times_of_their_own() -> None:
    assert first([SLOW, EMPTY], by=policy(lambda: 1.0)) == 2 * SLOW_S


@pytest.mark.parametrize(
    "loads",
    [
        [replace(SLOW, playing=4, slow=False), EMPTY],
        [replace(SLOW, gives=False), EMPTY],
        [SLOW, replace(EMPTY, takes=False)],
        [SLOW, replace(EMPTY, slow=True)],
        [SLOW, replace(EMPTY, playing=4)],
        [SLOW],
        [replace(SLOW, capacity=1, playing=1), replace(EMPTY, capacity=1)],
        [replace(SLOW, playing=4), replace(EMPTY, playing=3)],
        [replace(SLOW, capacity=11, playing=12), replace(EMPTY, capacity=11, playing=10)],
    ],
    ids=[
        "it plays in real time at its capacity",
        "none may move",
        "the other one takes none",
        "the other one is slow itself",
        "the other one is full",
        "there is no other one",
        "the other one is as slow",
        "it would only change places",
        "the other one would be as full",
    ],
)
def test_nothing_moves(loads: list[WorkerLoad]) -> None:
    assert first(loads) is None


def test_a_slow_device_gives_its_only_session_to_a_faster_one() -> None:
    assert first([replace(SLOW, capacity=1, playing=1), replace(EMPTY, capacity=20, playing=8)]) == SLOW_S


def test_the_worst_gives_first_and_the_emptiest_takes() -> None:
    loads = [
        replace(OVER, name="a", playing=9),
        replace(SLOW, name="b", playing=5),
        replace(SLOW, name="c", playing=8),
        replace(EMPTY, name="d", playing=2),
        replace(EMPTY, name="e", playing=1),
    ]
    by = policy()
    begun = [move for second in range(int(OVER_S) + 1) for move in by.moves(loads, float(second))]
    assert begun == [Move("c", "e"), Move("b", "d")], "each worker is part of one move at a time"
    by.ended(begun[0], OVER_S, moved=True)
    assert by.moves(loads, OVER_S + 1.0) == []
    assert by.moves(loads, OVER_S + 3.0) == [Move("c", "e")]


def test_a_worker_that_is_only_slow_settles_before_it_gives_another_one() -> None:
    slow = replace(SLOW, playing=4)
    by = policy()
    assert first([slow, EMPTY], by=by) == SLOW_S
    by.ended(HERE, 5.0, moved=True)
    begun = [second for second in range(6, 30) if by.moves([slow, EMPTY], float(second))]
    assert begun[0] == 5.0 + SETTLE_S


def test_a_move_that_failed_is_not_repeated_at_once() -> None:
    by = policy()
    assert first([SLOW, EMPTY], by=by) == SLOW_S
    by.ended(HERE, 4.0, moved=False)
    begun = [second for second in range(5, 30) if by.moves([SLOW, EMPTY], float(second))]
    assert begun[0] == 4.0 + SETTLE_S


def takings(seconds: int, becomes: Callable[[int], str]) -> list[float]:
    """How long w2 takes no session after the first one, after the second one, … The n-th one makes it slow
    or full for a while, as `becomes(n)` says."""
    by, took = policy(), list[float]()
    for now_s in map(float, range(seconds)):
        after_s = now_s - took[-1] if took else 1e9
        slow = after_s < PROOF_S - 5 and becomes(len(took)) == "slow"
        full = after_s < PROOF_S + 5 and becomes(len(took)) == "full"
        if by.moves([SLOW, replace(EMPTY, playing=4 if full else 0, slow=slow)], now_s):
            by.ended(HERE, now_s, moved=True)
            took.append(now_s)
    return [b - a for a, b in pairwise(took)]


def test_a_worker_that_becomes_slow_by_what_it_took_is_avoided_longer_and_longer() -> None:
    """Its capacity was measured when the machine had time; as soon as it is idle it looks well again."""
    waits = takings(3600, lambda number: "slow")
    assert waits[0] >= AVOID_S
    assert waits == sorted(waits)
    assert 4 <= len(waits) <= 8


def test_one_that_has_proved_itself_is_forgiven() -> None:
    waits = takings(600, lambda number: "full" if number == 3 else "slow")
    assert AVOID_S <= waits[0] < 2 * AVOID_S <= waits[1]
    assert waits[2] < AVOID_S <= waits[3] < 2 * AVOID_S


def test_workers_that_leave_are_forgotten_with_what_was_held_against_them() -> None:
    by = policy()
    assert first([SLOW, EMPTY], by=by) == SLOW_S
    by.ended(HERE, 4.0, moved=True)
    for second in range(5, 15):
        assert by.moves([SLOW, replace(EMPTY, slow=True)], float(second)) == []
    assert by.moves([SLOW, EMPTY], 15.0) == []
    assert by.moves([SLOW], 16.0) == []
    assert by.moves([SLOW, EMPTY], 17.0) == [HERE]
    assert by.moves([EMPTY], 18.0) == []
    by.ended(HERE, 19.0, moved=False)


# ---- many gateways, late figures, devices that are not what they were measured to be ----


@dataclass
class Crowd:
    """Workers and gateways on paper. `homes[g]` are the workers of gateway g's sessions. Gateways see figures
    that are up to `late_s` old, and measured capacities that vary by the fraction `noise`."""

    serves: list[int]
    homes: list[list[int]]
    seed: int
    late_s: int = 3
    noise: float = 0.08
    moved: list[int] = field(default_factory=list)  # when

    def playing(self, worker: int) -> int:
        return sum(home.count(worker) for home in self.homes)

    def run(self, seconds: int) -> None:
        dice = random.Random(self.seed)
        policies = [BalancePolicy(dice.random) for _ in self.homes]
        under_way: list[tuple[int, int, Move]] = []
        seen: list[list[tuple[int, int]]] = []
        for now in range(seconds):
            capacity = [max(1, round(n * (1 + dice.uniform(-1, 1) * self.noise))) for n in self.serves]
            seen.append([(c, self.playing(w)) for w, c in enumerate(capacity)])
            for ends, g, move in [each for each in under_way if each[0] <= now]:
                under_way.remove((ends, g, move))
                source, target = int(move.source), int(move.target)
                if source in self.homes[g]:
                    self.homes[g][self.homes[g].index(source)] = target
                    self.moved.append(now)
                policies[g].ended(move, float(now), moved=True)
            for g, by in enumerate(policies):
                old = seen[max(0, now - dice.randint(0, self.late_s))]
                loads = [self.load(g, w, *figures) for w, figures in enumerate(old)]
                under_way += [(now + dice.randint(1, 2), g, move) for move in by.moves(loads, float(now))]

    def load(self, gateway: int, worker: int, capacity: int, playing: int) -> WorkerLoad:
        slow = self.playing(worker) > self.serves[worker] / 0.85 and worker in self.homes[gateway]
        return WorkerLoad(str(worker), capacity, playing, slow, gives=worker in self.homes[gateway])


@pytest.mark.parametrize("seed", range(20))
def test_a_crowd_spreads_soon_and_then_stays(seed: int) -> None:
    """A worker is back, or new: 14 of 24 sessions are more than the others serve."""
    crowd = Crowd(
        [10, 10, 10], [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1, 1, 1], [0] * 4], seed
    )
    needed = crowd.playing(0) - 10 + max(0, crowd.playing(1) - 10)
    crowd.run(900)
    assert all(crowd.playing(w) <= 11 for w in range(3))
    assert crowd.moved[-1] <= 120, "and then nothing flaps"
    assert needed <= len(crowd.moved) <= 3 * needed


@pytest.mark.parametrize("seed", range(20))
def test_a_fleet_that_is_too_small_does_not_pass_its_sessions_around(seed: int) -> None:
    crowd = Crowd([6, 6, 6], [[0, 1, 2] * 3, [0, 1, 2] * 3, [0, 0, 1]], seed)
    crowd.run(1800)
    assert len(crowd.moved) <= 6


@pytest.mark.parametrize("seed", range(20))
def test_a_nearly_full_fleet_with_noisy_figures_stays_as_it_is(seed: int) -> None:
    crowd = Crowd([10, 10, 10, 10], [[0, 1, 2, 3] * 3, [0, 1, 2, 3] * 3, [0, 1, 2, 3] * 3], seed, noise=0.15)
    crowd.run(1800)
    assert len(crowd.moved) <= 6
