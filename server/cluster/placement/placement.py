"""Placement as a whole: each second it looks at what its placer and the directory show, and does what the
reconciler says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from engine.errors import InvalidInput
from server.cluster.messages import PlacedEntry, PlacementReport
from server.cluster.placement.base import (
    PlacedStage,
    PlacedWorker,
    PlacementFailed,
    PlacementHost,
    Placer,
    Survey,
)
from server.cluster.placement.reconciler import (
    Action,
    Drain,
    JoinedWorker,
    Kill,
    PlaceWorker,
    Reconciler,
    TakeBack,
)
from server.cluster.tables import Tables
from server.tasks import Tasks

log = logging.getLogger(__name__)

EVERY_S = 1.0
DOWN_S = 20.0  # for all workers to end
MAX_PLACED = 1024


class Members:
    """What placement needs of the directory: who has joined, and drains of single workers."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.retire, self.keep = tables.retire, tables.keep

    @property
    def drained(self) -> frozenset[str]:
        return self._tables.drained

    def joined(self) -> dict[str, JoinedWorker]:
        """Those that are heard. A worker that an operator drains is none of placement's business."""
        hosts, retired = self.drained, self._tables.is_retired
        return {
            each.name: JoinedWorker(each.host, each.sessions, each.host in hosts or retired(each.name))
            for each in self._tables.roster().workers
            if each.ready
        }


class Placement:
    def __init__(
        self,
        placer: Placer,
        members: Members,
        reconciler: Reconciler,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._placer, self._members, self._reconciler = placer, members, reconciler
        self._clock = clock
        self._tasks = Tasks()
        self._survey = Survey()
        self._fault, self._fault_s = "it was not asked yet", clock()
        self._left_host = ""  # what went wrong with `leave`
        self._left: tuple[str, ...] = ()
        self._ending = False

    def report(self) -> PlacementReport:
        now_s = self._clock()
        hosts = {name: each.host for name, each in self._survey.workers.items()}
        workers = tuple(
            PlacedEntry(name, self._reconciler.stage(name), hosts.get(name, ""))
            for name in sorted(self._reconciler.names)
        )
        notes = [*self._survey.warnings, *self._reconciler.notes(now_s)]
        if self._left_host:
            notes.append(self._left_host)
        if self._fault:
            notes.append(f"the placer does not answer since {now_s - self._fault_s:.0f} s: {self._fault}")
        return PlacementReport(self._reconciler.wanted, workers, tuple(notes), self._left)

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(EVERY_S)
        finally:
            await self._tasks.close()

    async def look(self) -> None:
        """To be called each second."""
        if self._ending:
            return
        try:
            self._survey = await self._placer.survey()
        except PlacementFailed as error:
            if not self._fault:
                self._fault_s = self._clock()
            if error.message != self._fault:
                log.error("placement: %s", error.message)
            self._fault = error.message
            return
        self._fault = ""
        seen = replace(self._survey, hosts=_with_drained(self._survey, self._members.drained))
        for action in self._reconciler.step(seen, self._members.joined(), self._clock()):
            match action:
                case Drain(name):
                    self._members.retire(name)
                case TakeBack(name):
                    self._members.keep(name)
                case PlaceWorker() | Kill():
                    self._tasks.spawn(self._act(action), f"{type(action).__name__} {action.name}")
            log.warning("placement: %s", _told(action))

    def scale(self, wanted: int) -> None:
        """Raises InvalidInput."""
        if not 0 <= wanted <= MAX_PLACED:
            raise InvalidInput(f"--workers must be 0 to {MAX_PLACED}, not {wanted}", field="workers")
        self._reconciler.wanted = wanted

    async def leave(self, host: str) -> None:
        self._left_host = ""
        try:
            await self._placer.leave(host)
        except PlacementFailed as error:
            self._left_host = f"{host} was not taken away: {error.message}"
            log.error("placement: %s", self._left_host)

    async def down(self) -> None:
        """End all placed workers, and with them their sessions."""
        self._ending = True
        await self._tasks.close()
        left, why = _alive(self._survey), f"it has not ended within {DOWN_S:g} s"
        try:
            async with asyncio.timeout(DOWN_S):
                while left := _alive(await self._placer.survey()):
                    for name in left:
                        await self._placer.kill(name)
                    await asyncio.sleep(0.1)
        except PlacementFailed as error:
            why = error.message
            if not left:
                self._left = (f"workers, if there are any: {why}",)
        except TimeoutError:
            pass
        self._left += tuple(f"{name} on {each.host or 'no host yet'}: {why}" for name, each in left.items())

    async def _act(self, action: PlaceWorker | Kill) -> None:
        try:
            if isinstance(action, Kill):
                await self._placer.kill(action.name)
            else:
                await self._placer.place(action.name, action.avoid)
        except PlacementFailed as error:
            if isinstance(action, PlaceWorker):
                self._reconciler.refused(action.name, error.message, self._clock())
            log.error("placement: %s: %s", action.name, error.message)


def _alive(survey: Survey) -> dict[str, PlacedWorker]:
    return {name: each for name, each in survey.workers.items() if each.stage is not PlacedStage.ENDED}


def _with_drained(survey: Survey, drained: frozenset[str]) -> dict[str, PlacementHost]:
    hosts = dict(survey.hosts)
    for name in drained:
        hosts[name] = replace(hosts.get(name, PlacementHost(name)), draining=True)
    return hosts


def _told(action: Action) -> str:
    match action:
        case PlaceWorker(name, avoid):
            return f"{name} is placed" + (f", not on {', '.join(sorted(avoid))}" if avoid else "")
        case Kill(name, why):
            return f"{name} is killed: {why}"
        case Drain(name):
            return f"{name} drains"
        case TakeBack(name):
            return f"{name} is kept"
