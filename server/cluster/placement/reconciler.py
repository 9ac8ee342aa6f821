"""Wanted workers against what runs: which to place, to drain and to kill. Pure; the clock is the caller's.

`step` is to be called about once a second with what the placer and the directory show. A worker that it
returns an action for is expected to show the effect; until then the action is repeated, or it is given up
with a reason that `notes` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from server.cluster.placement.base import PlacedStage, PlacedWorker, Survey
from server.cluster.placement.record import Failures, Suspects

LAG_S = 15.0  # until a survey shows what was placed
PENDING_S = 60.0  # then it is asked for again, with what is known of hosts by then
LOST_S = 3.5  # not ready in the directory, which takes 3 s of silence or a closed connection
PATIENCE_S = 5.0  # before a person is told that a worker has no place yet
BLIND_S = 60.0  # if nobody at all is heard, it is more likely us
KILL_AGAIN_S = 5.0
EMPTY_S = 2.0  # a drained worker has no sessions for so long before it is killed


class JoinedWorker(NamedTuple):
    """A worker as the directory sees it."""

    host: str
    sessions: int = 0
    draining: bool = False


class PlaceWorker(NamedTuple):
    name: str
    avoid: frozenset[str]


class Kill(NamedTuple):
    name: str
    why: str


class Drain(NamedTuple):
    """Move a worker's sessions away; open none there."""

    name: str


class TakeBack(NamedTuple):
    """End a worker's drain."""

    name: str


Action = PlaceWorker | Kill | Drain | TakeBack


@dataclass
class _Worker:
    name: str
    asked_s: float
    avoid: frozenset[str] = frozenset()
    placed: PlacedWorker | None = None
    host: str = ""
    joined: JoinedWorker | None = None  # while it is heard
    joined_s: float | None = None  # when it joined first
    silent_s: float | None = None  # since when it is not heard, having joined
    empty_s: float | None = None  # since when it is drained and has no sessions
    retiring: bool = False  # no longer wanted
    leaving: bool = False  # its host is
    killed_s: float | None = None
    why: str = ""

    @property
    def counts(self) -> bool:
        return self.killed_s is None and not self.retiring and not self.leaving


@dataclass
class Reconciler:
    """`start_s` is how long a worker may take from its start until it joins: loading the model included.
    `new_name` returns a name that was never used."""

    wanted: int
    new_name: Callable[[], str]
    start_s: float = 300.0
    _workers: dict[str, _Worker] = field(default_factory=dict)
    _failures: Failures = field(default_factory=Failures)
    _suspects: Suspects = field(default_factory=Suspects)
    _blind_s: float | None = None
    _short: int = 0

    def step(self, survey: Survey, joined: Mapping[str, JoinedWorker], now_s: float) -> list[Action]:
        self._see(survey, joined, now_s)
        actions = self._bury(survey, now_s)
        actions += self._lost(now_s)
        avoid = self._suspects.names | {name for name, host in survey.hosts.items() if host.draining}
        for worker in self._workers.values():
            actions += self._look(worker, avoid, now_s)
        counted = [worker for worker in self._workers.values() if worker.counts]
        self._short = 0
        if len(counted) < self.wanted:
            actions += self._more(self.wanted - len(counted), avoid, survey, now_s)
        else:
            self._fewer(counted, len(counted) - self.wanted)
        return actions + [TakeBack(w.name) for w in counted if w.counts and w.joined and w.joined.draining]

    def refused(self, name: str, why: str, now_s: float) -> None:
        """The placer could not place it."""
        if self._workers.pop(name, None) is not None:
            self._failures.add("", why, now_s)

    def notes(self, now_s: float) -> list[str]:
        """What a person should know: empty if all is as wanted."""
        told = [f"{w.name}: {w.why}" for w in self._workers.values() if w.why]
        if self._blind_s is not None:
            told.append("no worker is heard: this host may be cut off, so nothing is killed yet")
        return told + self._failures.notes(now_s)

    def stage(self, name: str) -> str:
        """In a word, what becomes of a worker."""
        worker = self._workers.get(name)
        if worker is None:
            return "not placed"
        if worker.killed_s is not None:
            return "ending"
        if worker.retiring or worker.leaving:
            return "draining"
        if worker.joined is not None:
            return "running"
        if worker.silent_s is not None:
            return "silent"
        return "starting" if worker.placed and worker.placed.stage is PlacedStage.RUNNING else "pending"

    @property
    def names(self) -> list[str]:
        return list(self._workers)

    @property
    def short(self) -> int:
        """How many workers are missing that not even a request is out for."""
        return self._short

    # ---- seeing ----

    def _see(self, survey: Survey, joined: Mapping[str, JoinedWorker], now_s: float) -> None:
        for name, placed in survey.workers.items():
            if placed.stage is not PlacedStage.ENDED and name not in self._workers:
                self._workers[name] = _Worker(name, now_s)  # placed by an earlier run
        for worker in self._workers.values():
            worker.placed = survey.workers.get(worker.name)
            worker.joined = joined.get(worker.name)
            if worker.placed is not None and worker.placed.host:
                worker.host = worker.placed.host
            if worker.joined is not None:
                worker.silent_s = None
                worker.joined_s = now_s if worker.joined_s is None else worker.joined_s
                self._suspects.heard(worker.host)
                self._failures.lives(worker.joined_s, now_s)
            elif worker.joined_s is not None and worker.silent_s is None:
                worker.silent_s = now_s
            host = survey.hosts.get(worker.host)
            worker.leaving = bool(host and host.draining)
        known = [w for w in self._workers.values() if w.joined_s is not None]
        if len(known) < 2 or any(w.joined for w in known) or len({w.host for w in known}) < 2:
            self._blind_s = None
        elif self._blind_s is None:
            self._blind_s = now_s
        for name, host in survey.hosts.items():
            if not host.alive:
                self._suspects.add(name, now_s)
        self._suspects.look(now_s)

    def _bury(self, survey: Survey, now_s: float) -> list[Action]:
        """Forget workers that are no more, and say why. What has ended on its own is cleared away."""
        actions: list[Action] = []
        for worker in list(self._workers.values()):
            placed = worker.placed
            if placed is not None and placed.stage is not PlacedStage.ENDED:
                continue
            if placed is None and worker.killed_s is None:
                just_asked = worker.joined_s is None and now_s - worker.asked_s < LAG_S
                if just_asked or worker.joined:  # or it lives on without its placer
                    continue
            del self._workers[worker.name]
            if worker.killed_s is not None:
                continue
            host = survey.hosts.get(worker.host)
            if host is not None and not host.alive:
                self._suspects.add(worker.host, now_s)
            why = (placed.why if placed else "") or "it is gone, and nobody said why"
            if placed is not None:
                actions.append(Kill(worker.name, f"it has ended: {why}"))
            self._failures.add(worker.host, f"{worker.name} ended: {why}", now_s, worker.joined_s)
        return actions

    # ---- judging ----

    def _lost(self, now_s: float) -> list[Action]:
        """Workers that were not heard for too long. Their hosts may be lost, if nobody there is heard."""
        if self._blind_s is not None and now_s - self._blind_s < BLIND_S:
            return []
        actions: list[Action] = []
        heard = {worker.host for worker in self._workers.values() if worker.joined}
        for worker in self._workers.values():
            if worker.killed_s is None and worker.silent_s is not None and now_s - worker.silent_s >= LOST_S:
                if worker.host not in heard:
                    self._suspects.add(worker.host, now_s)
                why = f"not heard for {now_s - worker.silent_s:.0f} s"
                self._failures.add(worker.host, f"{worker.name}: {why}", now_s, worker.joined_s)
                actions.append(self._kill(worker, why, now_s))
        return actions

    def _look(self, worker: _Worker, avoid: frozenset[str], now_s: float) -> list[Action]:
        if worker.killed_s is not None:
            if now_s - worker.killed_s < KILL_AGAIN_S:
                return []
            worker.killed_s = now_s
            return [Kill(worker.name, worker.why)]
        worker.why = ""
        if worker.silent_s is not None:
            worker.why = f"not heard for {now_s - worker.silent_s:.0f} s"
        elif worker.joined is None:
            return self._look_at_start(worker, avoid, now_s)
        elif worker.retiring or worker.leaving:
            return self._look_at_end(worker, worker.joined, now_s)
        return []

    def _look_at_start(self, worker: _Worker, avoid: frozenset[str], now_s: float) -> list[Action]:
        waited_s = now_s - worker.asked_s
        if worker.retiring or worker.leaving:
            return [self._kill(worker, "it is no longer wanted", now_s)]
        if worker.host and self._suspects.has(worker.host):
            return [self._kill(worker, f"its host {worker.host} was lost", now_s)]
        if worker.placed is not None and worker.placed.stage is PlacedStage.RUNNING:
            if waited_s >= self.start_s:
                why = f"it runs but has not joined within {self.start_s:g} s"
                self._failures.add(worker.host, f"{worker.name}: {why}", now_s)
                return [self._kill(worker, why, now_s)]
            return []
        reason = (worker.placed.why if worker.placed else "") or "no host has what it needs"
        if waited_s >= PATIENCE_S:
            worker.why = f"waits for a place for {waited_s:.0f} s: {reason}"
        if waited_s >= PENDING_S or avoid - worker.avoid:
            return [self._kill(worker, worker.why or "asked for anew", now_s)]  # under another name
        return []

    def _look_at_end(self, worker: _Worker, joined: JoinedWorker, now_s: float) -> list[Action]:
        worker.why = "drains" if not joined.sessions else f"drains: {joined.sessions} sessions have to move"
        if not joined.draining:
            worker.empty_s = None
            return [Drain(worker.name)]
        if joined.sessions:
            worker.empty_s = None
        elif worker.empty_s is None:
            worker.empty_s = now_s
        elif now_s - worker.empty_s >= EMPTY_S:
            return [self._kill(worker, "it is drained", now_s)]
        return []

    def _kill(self, worker: _Worker, why: str, now_s: float) -> Kill:
        worker.killed_s, worker.why = now_s, why
        return Kill(worker.name, why)

    # ---- acting ----

    def _more(self, missing: int, avoid: frozenset[str], survey: Survey, now_s: float) -> list[Action]:
        actions: list[Action] = []
        for worker in self._workers.values():
            if missing and worker.retiring and worker.joined and worker.killed_s is None:
                worker.retiring, worker.empty_s = False, None
                actions.append(TakeBack(worker.name))
                missing -= 1
        bad = self._failures.hosts(now_s)
        if any(h.free and h.alive and name not in avoid | bad for name, h in survey.hosts.items()):
            avoid |= bad
        now = min(missing, self._failures.allowed(now_s))
        for _ in range(now):
            name = self.new_name()
            self._workers[name] = _Worker(name, now_s, avoid)
            self._failures.tried(now_s)
            actions.append(PlaceWorker(name, avoid))
        self._short = missing - now
        return actions

    def _fewer(self, counted: list[_Worker], surplus: int) -> None:
        """Those without sessions first. `_look` drains them."""

        def rank(worker: _Worker) -> tuple[bool, bool, int, float]:
            joined = worker.joined
            draining, sessions = (joined.draining, joined.sessions) if joined else (False, 0)
            return joined is not None, not draining, sessions, -worker.asked_s

        for worker in sorted(counted, key=rank)[:surplus]:
            worker.retiring = True
