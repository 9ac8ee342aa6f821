"""Which workers are placed, drained and killed. Seconds are those of a pretended clock."""

from __future__ import annotations

import random

import pytest

from server.cluster.placement.base import Survey
from server.cluster.placement.reconciler import BLIND_S, PENDING_S, Drain, Kill, PlaceWorker, TakeBack
from server.cluster.placement.record import SUSPECT_S
from tests.server.cluster.placement.world import Machine, Runner, World, kills, placed, running


def test_all_are_placed_at_once_and_then_nothing_more_is_done() -> None:
    world = World({"a": Machine(2), "b": Machine(1)}, 3)
    assert placed(world.after(1)) == ["w1", "w2", "w3"]
    assert world.after(300) == []
    assert len(world.running()) == 3
    assert world.notes() == ""
    assert {world.reconciler.stage(name) for name in world.running()} == {"running"}


def test_a_worker_that_dies_is_replaced_at_once_where_it_was() -> None:
    world = running(1, a=Machine(1))
    world.runners["w1"].ended = "killed by SIGKILL"
    assert world.after(1) == [Kill("w1", "it has ended: killed by SIGKILL"), PlaceWorker("w2", frozenset())]
    assert "w1 ended: killed by SIGKILL" in world.notes()
    world.after(3)
    assert world.running() == {"w2": "a"}


def test_a_host_that_died_gets_no_new_worker_even_if_it_is_back_at_once() -> None:
    world = running(1, a=Machine(1), b=Machine(1))
    (lost,) = world.running().values()
    world.hosts[lost].alive = False
    (_, again) = world.after(1)
    assert isinstance(again, PlaceWorker)
    assert again.avoid == {lost}
    world.hosts[lost].alive = True
    world.after(5)
    assert lost not in world.running().values()
    assert len(world.running()) == 1


def test_a_silent_host_is_given_up_although_the_placer_believes_in_it() -> None:
    """Ray placed the new worker on the lost host and waited there for a minute."""
    world = running(1, a=Machine(2), b=Machine(2))
    world.hosts["a"].cut_off = True
    actions = world.after(5)
    assert kills(actions) == ["w1"]
    assert [each.avoid for each in actions if isinstance(each, PlaceWorker)] == [{"a"}]
    world.after(3)
    assert world.running() == {"w2": "b"}


def test_a_host_that_was_lost_is_used_again_later() -> None:
    world = running(2, a=Machine(1), b=Machine(1))
    world.hosts["a"].cut_off = True
    world.after(30)
    assert set(world.running().values()) == {"b"}
    assert "no GPU free" in world.notes()
    world.hosts["a"].cut_off = False
    world.after(SUSPECT_S + PENDING_S)
    assert set(world.running().values()) == {"a", "b"}


def test_a_short_silence_changes_nothing() -> None:
    world = running(1, a=Machine(1), b=Machine(1))
    world.hosts["a"].cut_off = True
    assert world.after(3) == []
    world.hosts["a"].cut_off = False
    assert world.after(60) == []


def test_a_frozen_worker_is_killed_and_replaced() -> None:
    world = running(2, a=Machine(1), b=Machine(2))
    world.runners["w2"].frozen = True
    assert kills(world.after(5)) == ["w2"]


def test_a_frozen_worker_is_no_reason_to_leave_a_host_where_others_are_heard() -> None:
    world = running(2, a=Machine(2))
    world.runners["w2"].frozen = True
    assert [each.avoid for each in world.after(5) if isinstance(each, PlaceWorker)] == [frozenset()]
    world.after(5)
    assert world.running() == {"w1": "a", "w3": "a"}


def test_if_nobody_is_heard_nobody_is_killed_for_a_while() -> None:
    world = running(2, a=Machine(1), b=Machine(1), c=Machine(2))
    for host in world.hosts.values():
        host.cut_off = True
    assert world.after(BLIND_S - 2) == []
    assert "this host may be cut off" in world.notes()
    for host in world.hosts.values():
        host.cut_off = False
    assert world.after(60) == []
    assert world.notes() == ""


def test_scaling_in_drains_the_emptiest_worker_and_kills_it_when_it_is_empty() -> None:
    world = running(3, a=Machine(3))
    for sessions, runner in zip((5, 2, 9), world.runners.values(), strict=True):
        runner.sessions = sessions
    world.reconciler.wanted = 2
    assert world.after(60) == [Drain("w2")]
    assert "w2: drains: 2 sessions have to move" in world.notes()
    world.runners["w2"].sessions = 0
    assert world.after(60) == [Kill("w2", "it is drained")]
    assert set(world.running()) == {"w1", "w3"}


def test_scaling_out_again_takes_a_draining_worker_back() -> None:
    world = running(2, a=Machine(2))
    world.runners["w1"].sessions = world.runners["w2"].sessions = 1
    world.reconciler.wanted = 1
    (drained,) = world.after(5)
    world.reconciler.wanted = 2
    assert world.after(60) == [TakeBack(drained.name)]


def test_scaling_in_drops_requests_first() -> None:
    world = running(1, a=Machine(1))
    world.reconciler.wanted = 3
    world.after(5)
    world.reconciler.wanted = 1
    assert sorted(kills(world.after(60))) == ["w2", "w3"]
    assert world.running() == {"w1": "a"}


def test_a_draining_host_is_replaced_first_and_left_when_it_is_empty() -> None:
    world = running(2, a=Machine(1), b=Machine(1), c=Machine(1))
    world.runners["w1"].sessions = 3
    world.hosts["a"].draining = True
    assert world.after(30) == [Drain("w1"), PlaceWorker("w3", frozenset({"a"}))]
    assert set(world.running().values()) == {"a", "b", "c"}
    world.runners["w1"].sessions = 0
    assert world.after(30) == [Kill("w1", "it is drained")]


def test_a_drain_that_ends_early_keeps_the_worker() -> None:
    world = running(1, a=Machine(1))
    world.runners["w1"].sessions = 3
    world.hosts["a"].draining = True
    world.after(5)
    world.hosts["a"].draining = False
    assert world.after(100) == [TakeBack("w1"), Kill("w2", "it is no longer wanted")]


def test_a_new_placer_finds_the_workers_of_the_one_before() -> None:
    world = World({"a": Machine(2)}, 2)
    for name in ("wx", "wy"):
        world.runners[name] = Runner(frozenset(), "a")
    assert world.after(120) == []
    assert set(world.running()) == {"wx", "wy"}


def test_a_kill_is_repeated_until_the_worker_is_gone() -> None:
    world = running(1, a=Machine(1), b=Machine(1))
    world.kills_work = False
    world.runners["w1"].frozen = True
    assert kills(world.after(20)) == ["w1"] * 4
    assert list(world.running().values()) == ["b"]


def test_a_worker_that_its_placer_has_forgotten_counts_as_long_as_it_is_heard() -> None:
    """Ray's head without fault tolerance forgets them when it restarts."""
    world = running(1, a=Machine(1))
    step = world.reconciler.step
    assert step(Survey(), world.joined(), world.now_s + 60) == []
    assert [type(each) for each in step(Survey(), {}, world.now_s + 61)] == [PlaceWorker]


@pytest.mark.parametrize("seed", range(20))
def test_after_any_faults_the_wanted_number_runs_again(seed: int) -> None:
    dice = random.Random(seed)
    world = World({name: Machine(2) for name in "abcde"}, 4)
    world.after(90)
    for _ in range(30):
        host = world.hosts[dice.choice("abcde")]
        match dice.randrange(7):
            case 0:
                host.alive = False
            case 1:
                host.cut_off = True
            case 2:
                host.broken = True
            case 3:
                host.draining = True
            case 4:
                for runner in world.runners.values():
                    runner.frozen = runner.frozen or dice.random() < 0.2
            case 5:
                for runner in world.runners.values():
                    runner.ended = runner.ended or ("killed" if dice.random() < 0.2 else "")
            case 6:
                world.reconciler.wanted = dice.randrange(1, 7)
        lost = {name for name, each in world.hosts.items() if not each.alive}
        actions = world.after(dice.randrange(1, 40))
        assert all(lost <= each.avoid for each in actions if isinstance(each, PlaceWorker))
        for each in world.hosts.values():
            if dice.random() < 0.5:
                each.alive, each.cut_off, each.broken, each.draining = True, False, False, False
    for each in world.hosts.values():
        each.alive, each.cut_off, each.broken, each.draining = True, False, False, False
    world.after(400)
    assert len(world.running()) == world.reconciler.wanted
    assert world.after(100) == []
    assert len(world.runners) == world.reconciler.wanted
