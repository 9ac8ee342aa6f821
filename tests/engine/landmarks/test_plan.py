"""Landmarks are chosen once, before they are seen, by the seed or by a prompt."""

from __future__ import annotations

import numpy as np
import pytest

from engine.backends.fake import FAKE_SPEC
from engine.landmarks.plan import (
    MET,
    NAMED,
    Asked,
    CameraView,
    behind_picture,
    chosen,
    in_view,
    number_of,
    planned,
    updated_names,
    with_named,
)
from engine.landmarks.where import Where
from engine.types import FloatArray

SPEC = FAKE_SPEC
CELL = SPEC.width // SPEC.latent_width


def walk(plan: FloatArray, stops: list[int], seed: int = 3) -> list[dict[int, FloatArray]]:
    """The landmarks in view at each stop."""
    seen = []
    for odometer in stops:
        numbers = in_view(odometer, SPEC.segment, SPEC)
        plan = planned(plan, numbers, seed, 0, SPEC)
        seen.append({n: plan[n % len(plan)] for n in numbers})
    return seen


def empty() -> FloatArray:
    return np.zeros((SPEC.landmarks, 4), np.float32)


def test_everything_in_view_is_planned() -> None:
    for odometer in range(-300, 300, 7):
        numbers = in_view(odometer, SPEC.segment, SPEC)
        assert len(numbers) <= SPEC.landmarks
        for n in (numbers[0] - 1, numbers[-1] + 1):  # the next on either side are out of sight
            x = chosen(n, 3, 0, SPEC)[0]
            assert abs(x - CELL * odometer) > SPEC.width / 2 + CELL * SPEC.segment + 26


def test_a_landmark_does_not_change_and_returns() -> None:
    out = walk(empty(), list(range(0, 60, 2)))
    back = walk(empty(), [*range(0, 60, 2), *range(58, -2, -2)])[30:]
    for there, again in zip(out, reversed(back), strict=True):
        for n in there.keys() & again.keys():
            np.testing.assert_array_equal(there[n], again[n])


def test_slots_know_which_landmark_they_hold() -> None:
    for n in (-5, -1, 0, 1, 40):
        assert number_of(chosen(n, 7, 2, SPEC), SPEC) == n
    assert number_of(np.zeros(4, np.float32), SPEC) is None


def test_seeds_and_scenes_have_different_landmarks() -> None:
    def many(seed: int, scene: int) -> FloatArray:
        return np.stack([chosen(n, seed, scene, SPEC) for n in range(20)])

    assert not np.array_equal(many(1, 0), many(2, 0))
    assert not np.array_equal(many(1, 0), many(1, 1))
    kinds = set(many(1, 0)[:, 1])
    assert kinds == {1 + i for i in range(len(SPEC.landmark_kinds))}


NOTHING = np.zeros(SPEC.landmarks, np.float32)


def named(plan: FloatArray, *wanted: Asked, at: int = 0, travel: int = 0, fresh: bool = False) -> FloatArray:
    return with_named(plan, NOTHING, wanted, CameraView(at, travel, 3, 0, fresh), SPEC)[0]


def seen(at: int = 0) -> FloatArray:
    return planned(empty(), in_view(at, 0, SPEC), 3, 0, SPEC)


def what(plan: FloatArray, n: int) -> list[float]:
    row = plan[n % len(plan)]
    assert number_of(row, SPEC) == n
    return [float(v) for v in row[1:3]]


def test_a_still_camera_gets_named_landmarks_on_both_sides_and_keeps_those_in_view() -> None:
    plan, view = seen(), in_view(0, 0, SPEC)
    after = named(plan, Asked(1, 2, None, True), Asked(0, None, None, True))
    assert what(after, view[-1] + 1) == what(after, view[0] - 1) == [2, 2]
    assert what(after, view[-1] + 2)[0] == what(after, view[0] - 2)[0] == 1
    for n in view:
        np.testing.assert_array_equal(after[n % len(plan)], plan[n % len(plan)])


@pytest.mark.parametrize("travel", [1, -1])
def test_on_a_walk_they_come_next_and_within_about_a_picture(travel: int) -> None:
    at = 40 * travel
    plan, view = seen(at), in_view(at, 0, SPEC)
    after = named(plan, Asked(1, 2, None, True), at=at, travel=travel)
    (changed,) = [i for i in range(len(plan)) if (after[i] != plan[i]).any()]
    x = after[changed, 0] - CELL * at
    assert SPEC.width / 2 + 26 < x * travel < 1.7 * SPEC.width
    assert number_of(after[changed], SPEC) == (view[-1] + 1 if travel > 0 else view[0] - 1)


def test_sides_and_distance_are_respected() -> None:
    plan, view = seen(), in_view(0, 0, SPEC)
    places: dict[Where, int] = {
        "left": view[0] - 1, "behind": view[0] - 1, "right": view[-1] + 1, "far": view[-1] + 2,
    }  # fmt: skip
    for where, n in places.items():
        after = named(plan, Asked(1, 2, where, True), travel=1)
        assert what(after, n) == [2, 2], where


def test_a_fresh_scene_begins_with_them_beside_the_hero() -> None:
    after = named(empty(), Asked(1, 2, "near"), Asked(0, 0), Asked(1, 0, "left"), fresh=True)
    assert (what(after, 0), what(after, -1), what(after, -2)) == ([2, 2], [1, 0], [2, 0])
    ahead = named(empty(), Asked(1, 2, "ahead"), fresh=True)
    assert what(ahead, 1) == [2, 2]
    assert abs(ahead[1 % len(ahead), 0] - SPEC.width / 2) > 26


def test_a_landmark_that_is_ahead_or_in_view_is_not_planned_again_unless_another_is_requested() -> None:
    plan, flags = with_named(seen(), NOTHING, [Asked(1, 2, None, True)], CameraView(0, 1, 3, 0), SPEC)
    np.testing.assert_array_equal(
        with_named(plan, flags, [Asked(1, 2)], CameraView(0, 1, 3, 0), SPEC)[0], plan
    )
    more, _ = with_named(plan, flags, [Asked(1, 2, None, True)], CameraView(0, 1, 3, 0), SPEC)
    assert (more != plan).any(1).sum() == 1


def test_a_name_is_met_once_it_is_in_the_picture_and_ends_with_its_place() -> None:
    plan, flags = with_named(seen(), NOTHING, [Asked(1, 2, None, True)], CameraView(0, 1, 3, 0), SPEC)
    slot = int(flags.argmax())
    assert updated_names(plan, plan, flags, 0, SPEC)[slot] == NAMED
    met = updated_names(plan, plan, flags, int(plan[slot, 0]) // CELL, SPEC)
    assert met[slot] == MET
    assert updated_names(plan, plan, met, 0, SPEC)[slot] == MET
    other = plan.copy()
    other[slot, 0] += SPEC.landmarks * SPEC.landmark_spacing_px
    assert updated_names(plan, other, met, 0, SPEC)[slot] == 0


def test_nothing_named_changes_nothing() -> None:
    plan = empty()
    assert named(plan) is plan


def test_where_a_start_picture_stands_nothing_is_planned() -> None:
    """The plan of the seed used to replace the landmarks of the picture."""
    numbers = in_view(0, 4 * SPEC.segment, SPEC)
    plan = behind_picture(planned(empty(), numbers, 3, 0, SPEC), SPEC)
    inside = np.abs(plan[:, 0]) < SPEC.width / 2 + 26
    assert inside.any()
    assert not plan[inside, 1].any()
    assert plan[~inside & (plan[:, 3] > 0), 1].all()


def test_a_landmark_named_later_does_not_go_where_a_start_picture_stood() -> None:
    """It would never be shown: hidden places are taken, and are not chosen again."""
    plan = behind_picture(planned(empty(), in_view(0, 4 * SPEC.segment, SPEC), 3, 0, SPEC), SPEC)
    np.testing.assert_array_equal(planned(plan, in_view(0, 0, SPEC), 3, 0, SPEC), plan)
    at = SPEC.latent_width + 4  # the picture has just left the screen
    plan = planned(plan, in_view(at, 0, SPEC), 3, 0, SPEC)
    after = with_named(plan, NOTHING, [Asked(1, 2, "left", True)], CameraView(at, 1, 3, 0), SPEC)[0]
    (changed,) = [i for i in range(len(plan)) if (after[i] != plan[i]).any()]
    assert abs(after[changed, 0]) >= SPEC.width / 2 + 26
