"""A pretended cluster for the reconciler: hosts, a placer and a directory, in steps of a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from server.cluster.placement.base import PlacedStage, PlacedWorker, PlacementHost, Survey
from server.cluster.placement.reconciler import (
    Action,
    Drain,
    JoinedWorker,
    Kill,
    PlaceWorker,
    Reconciler,
    TakeBack,
)


@dataclass
class Machine:
    places: int = 1
    alive: bool = True  # as the placer believes
    cut_off: bool = False  # the directory hears nothing of it; the placer notices nothing
    draining: bool = False
    broken: bool = False  # what starts there ends at once


@dataclass
class Runner:
    avoid: frozenset[str]
    host: str = ""
    started_s: float = 0.0
    sessions: int = 0
    draining: bool = False
    frozen: bool = False
    ended: str = ""


@dataclass
class World:
    hosts: dict[str, Machine]
    wanted: int
    start_takes_s: float = 2.0
    kills_work: bool = True
    placer_is_away: bool = False
    now_s: float = 1000.0
    runners: dict[str, Runner] = field(default_factory=dict)
    done: list[tuple[float, Action]] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = count(1)
        self.reconciler = Reconciler(self.wanted, lambda: f"w{next(names)}", start_s=30.0)

    def after(self, seconds: float) -> list[Action]:
        """The actions of the next so many seconds."""
        before = len(self.done)
        for _ in range(int(seconds)):
            self.now_s += 1.0
            self._live()
            for action in self.reconciler.step(self.survey(), self.joined(), self.now_s):
                self.done.append((self.now_s, action))
                self._act(action)
        return [action for _, action in self.done[before:]]

    def survey(self) -> Survey:
        workers = {}
        for name, runner in self.runners.items():
            if runner.ended or (runner.host and not self.hosts[runner.host].alive):
                why = runner.ended or "its host is gone"
                workers[name] = PlacedWorker(name, PlacedStage.ENDED, runner.host, why)
            elif runner.host:
                workers[name] = PlacedWorker(name, PlacedStage.RUNNING, runner.host)
            else:
                workers[name] = PlacedWorker(name, PlacedStage.PENDING, why="no GPU free")
        hosts = {
            name: PlacementHost(name, each.alive, each.draining, self._free(name))
            for name, each in self.hosts.items()
        }
        return Survey(workers, hosts)

    def joined(self) -> dict[str, JoinedWorker]:
        return {
            name: JoinedWorker(each.host, each.sessions, each.draining)
            for name, each in self.runners.items()
            if each.host
            and not each.ended
            and not each.frozen
            and self.hosts[each.host].alive
            and not self.hosts[each.host].cut_off
            and self.now_s - each.started_s >= self.start_takes_s
        }

    def running(self) -> dict[str, str]:
        """The hosts of the workers that are heard."""
        return {name: each.host for name, each in self.joined().items()}

    def notes(self) -> str:
        return "\n".join(self.reconciler.notes(self.now_s))

    def _free(self, host: str) -> int:
        taken = sum(each.host == host and not each.ended for each in self.runners.values())
        return self.hosts[host].places - taken

    def _live(self) -> None:
        for runner in self.runners.values():
            if not runner.host:
                fits = [
                    name
                    for name, each in self.hosts.items()
                    if each.alive and not each.draining and name not in runner.avoid and self._free(name) > 0
                ]
                if fits:
                    runner.host, runner.started_s = fits[0], self.now_s
            elif self.hosts[runner.host].broken and not runner.ended:
                runner.ended = "cannot load the weights"

    def _act(self, action: Action) -> None:
        match action:
            case PlaceWorker(name, avoid):
                assert name not in self.runners, "a name is used once"
                self.runners[name] = Runner(avoid)
            case Kill(name):
                if name in self.runners and self.kills_work:
                    del self.runners[name]
            case Drain(name):
                self.runners[name].draining = True
            case TakeBack(name):
                self.runners[name].draining = False


def kills(actions: list[Action]) -> list[str]:
    return [each.name for each in actions if isinstance(each, Kill)]


def placed(actions: list[Action]) -> list[str]:
    return [each.name for each in actions if isinstance(each, PlaceWorker)]


def running(wanted: int, **hosts: Machine) -> World:
    world = World(dict(hosts), wanted)
    world.after(90)  # long enough that nothing counts as a failure at the start
    assert len(world.running()) == wanted
    return world
