"""Landmarks are chosen once, before they are seen, by the seed or by a prompt."""

from __future__ import annotations

import numpy as np

from engine.backends.fake import FAKE_SPEC
from engine.landmarks import Named, chosen, in_view, number_of, planned, with_named
from engine.types import FloatArray

SPEC = FAKE_SPEC
CELL = SPEC.width // SPEC.latent_width


def walk(plan: FloatArray, stops: list[int], seed: int = 3) -> list[dict[int, FloatArray]]:
    """What is in view at each stop."""
    seen = []
    for odometer in stops:
        numbers = in_view(odometer, SPEC.segment, SPEC)
        plan = planned(plan, numbers, seed, 0, SPEC)
        seen.append({n: plan[n % len(plan)] for n in numbers})
    return seen


def empty() -> FloatArray:
    return np.zeros((SPEC.landmarks, 4), np.float32)


def test_whatever_can_be_seen_is_planned() -> None:
    for odometer in range(-300, 300, 7):
        numbers = in_view(odometer, SPEC.segment, SPEC)
        assert len(numbers) <= SPEC.landmarks
        for n in (numbers[0] - 1, numbers[-1] + 1):  # the next on either side are out of sight
            x = chosen(n, 3, 0, SPEC)[0]
            assert abs(x - CELL * odometer) > SPEC.width / 2 + CELL * SPEC.segment + 26


def test_a_landmark_stays_what_it_is_and_returns() -> None:
    out = walk(empty(), list(range(0, 60, 2)))
    back = walk(empty(), [*range(0, 60, 2), *range(58, -2, -2)])[30:]
    for there, again in zip(out, reversed(back), strict=True):
        for n in there.keys() & again.keys():
            np.testing.assert_array_equal(there[n], again[n])


def test_slots_know_which_landmark_they_hold() -> None:
    for n in (-5, -1, 0, 1, 40):
        assert number_of(chosen(n, 7, 2, SPEC), SPEC) == n
    assert number_of(np.zeros(4, np.float32), SPEC) is None


def test_seeds_and_scenes_have_landmarks_of_their_own() -> None:
    def many(seed: int, scene: int) -> FloatArray:
        return np.stack([chosen(n, seed, scene, SPEC) for n in range(20)])

    assert not np.array_equal(many(1, 0), many(2, 0))
    assert not np.array_equal(many(1, 0), many(1, 1))
    kinds = set(many(1, 0)[:, 1])
    assert kinds == {1 + i for i in range(len(SPEC.landmark_kinds))}


def test_named_landmarks_come_next_on_either_side() -> None:
    plan = planned(empty(), in_view(0, 0, SPEC), 3, 0, SPEC)
    before = {number_of(row, SPEC) for row in plan} - {None}
    after = with_named(plan, [Named(1, 2), Named(0, None)], 0, 3, 0, SPEC)
    right, left = max(n for n in before if n is not None) + 1, min(n for n in before if n is not None) - 1
    assert after[right % len(plan)][1:3].tolist() == [2, 2]
    assert after[left % len(plan)][1:3].tolist() == [2, 2]
    assert after[(right + 1) % len(plan)][1] == 1
    for n in before:
        assert n is not None
        np.testing.assert_array_equal(after[n % len(plan)], plan[n % len(plan)])


def test_nothing_named_changes_nothing() -> None:
    plan = empty()
    assert with_named(plan, [], 0, 3, 0, SPEC) is plan
