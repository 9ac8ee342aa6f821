"""Workers that find no place, do not start, or fail again and again, on a pretended clock."""

from __future__ import annotations

from itertools import pairwise

from server.cluster.placement.reconciler import PENDING_S, Kill, PlaceWorker
from tests.server.cluster.placement.world import Machine, World, kills, placed, running


def test_a_worker_that_starts_on_a_host_that_is_lost_is_not_waited_for() -> None:
    world = running(1, a=Machine(2), b=Machine(1))
    world.start_takes_s = 1e9
    world.reconciler.wanted = 2
    world.after(2)
    world.hosts["a"].cut_off = True
    assert kills(world.after(5)) == ["w1", "w2"]


def test_a_start_that_fails_late_is_waited_after_too() -> None:
    world = World({"a": Machine(1)}, 1, start_takes_s=1e9)
    world.after(100)
    at_s = {(type(each), each.name): at_s for at_s, each in world.done}
    assert at_s[PlaceWorker, "w2"] == at_s[Kill, "w1"]
    assert at_s[PlaceWorker, "w3"] > at_s[Kill, "w2"]


def test_what_fails_again_and_again_waits_longer_each_time_and_says_why() -> None:
    world = World({"a": Machine(2, broken=True)}, 2)
    world.after(300)
    times = [at_s for at_s, action in world.done if isinstance(action, PlaceWorker)]
    gaps = [b - a for a, b in pairwise(times)]
    assert len(times) < 15
    assert gaps[-1] > 30
    assert "cannot load the weights" in world.notes()
    assert "failures in a row: at most one worker is placed, in " in world.notes()
    world.hosts["a"].broken = False
    world.after(180)
    assert len(world.running()) == 2


def test_workers_that_run_well_do_not_hide_one_that_fails_again_and_again() -> None:
    world = running(1, a=Machine(1), b=Machine(1, broken=True))
    world.reconciler.wanted = 2
    world.after(300)
    assert len(placed([action for _, action in world.done])) < 15


def test_a_host_where_workers_fail_is_left_for_another_that_has_room() -> None:
    world = World({"a": Machine(1, broken=True), "b": Machine(1)}, 1)
    world.after(30)
    assert world.running() == {"w3": "b"}


def test_a_host_where_workers_fail_is_tried_again_if_it_is_the_only_one() -> None:
    world = World({"a": Machine(1, broken=True)}, 1)
    world.after(100)
    world.hosts["a"].broken = False
    world.after(100)
    assert list(world.running().values()) == ["a"]


def test_a_worker_without_a_place_waits_and_is_asked_for_again() -> None:
    world = World({"a": Machine(1)}, 2)
    world.after(10)
    assert "w2: waits for a place for 9 s: no GPU free" in world.notes()
    assert placed(world.after(PENDING_S)) == ["w3"]
    world.hosts["b"] = Machine(1)
    world.after(5)
    assert world.running() == {"w1": "a", "w3": "b"}
    assert world.notes() == ""


def test_a_request_made_before_a_host_was_lost_is_made_again() -> None:
    """The old request would still be granted there."""
    world = running(2, a=Machine(1), b=Machine(1))
    world.reconciler.wanted = 3
    world.after(5)
    world.hosts["a"].cut_off = True
    actions = world.after(5)
    assert "w3" in kills(actions)
    assert all(each.avoid == {"a"} for each in actions if isinstance(each, PlaceWorker))
    assert len(placed(actions)) == 2


def test_a_worker_that_never_joins_is_given_up() -> None:
    world = World({"a": Machine(1)}, 1, start_takes_s=1e9)
    assert kills(world.after(35)) == ["w1"]
    assert "w1: it runs but has not joined within 30 s" in world.notes()


def test_a_refusal_of_the_placer_is_told() -> None:
    world = World({"a": Machine(1)}, 1)
    world.after(1)
    world.reconciler.refused("w1", "Ray did not answer within 10 s", world.now_s)
    del world.runners["w1"]
    assert "Ray did not answer within 10 s" in world.notes()
    world.after(5)
    assert world.running() == {"w2": "a"}
