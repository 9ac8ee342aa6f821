"""Which session leaves a worker that is too slow, and that its viewers notice nothing else of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from engine.types import Capacity, Stall
from server.gateway.balance.balancer import ARRIVED_S, STAYS_S, Balancer
from server.gateway.balance.policy import OVER_S, SETTLE_S, SLOW_S, BalancePolicy
from server.gateway.fleet.probation import MAX_FAILOVERS
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.worker.messages.commands import CloseSession, ExportSession
from server.worker.messages.events import Exported
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import FakeWorker, gateway, join, packet, recorded, stats, until


@dataclass
class Crowd:
    """Three watched sessions on w1, which serves two. w2 is empty. Upkeep rests: tests call `check`."""

    gate: Gateway
    workers: list[FakeWorker]
    clock: ManualClock
    balancer: Balancer
    sessions: list[GatewaySession]

    def told(self, one: int = 2, two: int = 2) -> None:
        """The workers report how many sessions they serve."""
        for worker, serves, name in zip(self.workers, (one, two), ("w1", "w2"), strict=True):
            count = self.gate.sessions.count(name)
            worker.tell(Capacity(serves, count, 0.9, count))

    def others(self, count: int, serves: int) -> None:
        """Other gateways have so many sessions on w2, and all of them play."""
        self.workers[1].tell(Capacity(serves, count, 0.9, count))
        self.gate.fleet.named("w2").others = count

    def plays(self, rate: float, segment: int = 4) -> None:
        for session in self.sessions:
            worker = self.workers[session.worker == "w2"]
            worker.tell(replace(stats(segment, session.id), rate=rate))

    async def check(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.balancer.check()
            await asyncio.sleep(0)  # what it began shows

    async def moved(self, session: GatewaySession, segment: int) -> None:
        """A move has begun, and its next segment starts to play."""
        name, old = session.worker, self.workers[session.worker == "w2"]
        before = sum(isinstance(c, ExportSession) for c in old.commands)
        await until(lambda: session.moving, "begin of the move")
        old.tell(stats(segment, session.id))
        await until(lambda: sum(isinstance(c, ExportSession) for c in old.commands) > before, "question")
        await until(lambda: session.worker != name, "move")

    def where(self) -> list[str]:
        return [session.worker for session in self.sessions]

    @property
    def count(self) -> float | None:
        value = self.gate.metrics.registry.get_sample_value
        return value("psistream_sessions_moved_total", {"reason": "balance"})


@asynccontextmanager
async def crowded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crowd]:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 3600.0)
    clock = ManualClock()
    async with gateway(clock, workers=2, snapshot_every_s=0.0) as (gate, workers, _):
        gate.drain("w2")
        sessions = [gate.session("main"), await gate.open("a dog"), await gate.open("a cat")]
        gate.take_back("w2")
        for session in sessions:
            clock.advance(1.0)
            gate.sessions.assign(session, "w1")  # one after the other
            join(session.fanout)
            gate.sessions.announce(session)
        for worker in workers:
            worker.export_answer = lambda c: Exported(c.session, c.request, b"moved", segment=4, end_90k=9000)
        clock.advance(ARRIVED_S)
        parts = gate.parts
        balancer = Balancer(gate.sessions, gate.fleet, parts.migration, BalancePolicy(lambda: 0.0))
        try:
            yield Crowd(gate, workers, clock, balancer, sessions)
        finally:
            await balancer.close()


async def test_a_slow_session_moves_to_a_worker_with_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch) as crowd:
        last = crowd.sessions[2]
        sent = recorded(last.fanout)
        crowd.told()
        crowd.plays(rate=0.6)
        await crowd.check(SLOW_S)
        assert not any(session.moving for session in crowd.sessions), "trouble has to last"
        await crowd.check(1)
        crowd.workers[0].tell(packet(32, session=last.id))
        await crowd.moved(last, 4)
        assert crowd.where() == ["w1", "w1", "w2"], "the one that came last loses the least"
        crowd.workers[0].tell(packet(39, session=last.id))
        crowd.workers[0].tell(packet(40, session=last.id))
        crowd.workers[1].tell(packet(40, keyframe=True, session=last.id))
        assert [p.frame for p in sent] == [32, 39, 40]
        assert all(a.pts_90k < b.pts_90k for a, b in pairwise(sent))
        await until(lambda: CloseSession(last.id) in crowd.workers[0].commands, "end in the old worker")
        assert crowd.count == 1
        crowd.told()
        crowd.plays(rate=1.0, segment=5)
        await crowd.check(120)
        assert not any(session.moving for session in crowd.sessions), "all play in real time"


async def test_a_worker_over_its_capacity_gives_one_before_anybody_sees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with crowded(monkeypatch) as crowd:
        crowd.told()
        crowd.plays(rate=1.0)
        await crowd.check(OVER_S)
        assert not any(session.moving for session in crowd.sessions)
        await crowd.check(1)
        await crowd.moved(crowd.sessions[2], 4)


async def test_a_slow_session_goes_before_one_that_came_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch) as crowd:
        crowd.told(one=3)
        crowd.plays(rate=1.0)
        crowd.workers[0].tell(replace(stats(4, crowd.sessions[1].id), rate=0.9))
        await crowd.check(SLOW_S + 1)
        await crowd.moved(crowd.sessions[1], 5)


def stalled(session: GatewaySession) -> None:
    session.buffering = Stall(1.0, 1.0, 3.0)


async def test_a_stalled_session_counts_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch) as crowd:
        crowd.told(one=3)
        crowd.plays(rate=1.0)
        stalled(crowd.sessions[0])
        await crowd.check(SLOW_S + 1)
        await crowd.moved(crowd.sessions[0], 5)


REASONS: dict[str, Callable[[GatewaySession], None]] = {
    "it is being moved": lambda s: setattr(s, "moving", True),
    "it is being closed": lambda s: setattr(s, "closing", True),
    "its worker was lost": lambda s: setattr(s, "orphaned", True),
    "its picture is not back": lambda s: setattr(s, "lost_s", 1.0),
    "it is suspected": lambda s: setattr(s, "failovers", MAX_FAILOVERS + 1),
    "it is being claimed": lambda s: setattr(s, "resuming", True),
    "its client has used up its share": lambda s: setattr(s, "throttled", True),
    "it has shown nothing yet": lambda s: setattr(s, "stats", None),
    "it is paused": lambda s: setattr(s, "info", replace(s.info, paused=True)),
    "nobody watches it": lambda s: s.fanout.close(),
}


@pytest.mark.parametrize("reason", REASONS)
async def test_some_sessions_stay(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that would go next stays; the one before it goes."""
    async with crowded(monkeypatch) as crowd:
        crowd.told(one=1)
        crowd.plays(rate=1.0)
        stays, goes = crowd.sessions[2], crowd.sessions[1]
        REASONS[reason](stays)
        crowd.gate.sessions.announce(stays)
        await crowd.check(OVER_S + 1)
        await crowd.moved(goes, 5)
        assert stays.worker == "w1"


async def test_a_session_that_has_just_arrived_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch) as crowd:
        crowd.told()
        crowd.plays(rate=0.6)
        for session in crowd.sessions:
            session.placed_s = crowd.clock() + 60.0
        await crowd.check(30)
        assert not any(session.moving for session in crowd.sessions)


BAD_TARGETS: dict[str, Callable[[Crowd], None]] = {
    "it is drained": lambda c: setattr(c.gate.fleet.named("w2"), "draining", True),
    "others play there": lambda c: c.others(1, serves=1),
    "nobody knows what it serves": lambda c: setattr(c.gate.fleet.named("w2"), "capacity", None),
    "it has left": lambda c: setattr(c.gate.fleet.named("w2"), "left", True),
    "others have taken its places": lambda c: c.others(3, serves=9),
}


@pytest.mark.parametrize("reason", BAD_TARGETS)
async def test_some_workers_take_nothing(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch) as crowd:
        crowd.told()
        crowd.plays(rate=0.6)
        BAD_TARGETS[reason](crowd)
        await crowd.check(30)
        assert not any(session.moving for session in crowd.sessions)


async def test_sessions_of_other_gateways_take_a_workers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch) as crowd:
        crowd.told()
        crowd.plays(rate=0.6)
        crowd.others(2, serves=2)
        await crowd.check(30)
        assert not any(session.moving for session in crowd.sessions)
        crowd.others(1, serves=2)
        await crowd.check(1)
        await crowd.moved(crowd.sessions[2], 5)


async def test_a_drained_worker_is_left_to_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch) as crowd:
        crowd.told()
        crowd.plays(rate=0.6)
        crowd.gate.fleet.named("w1").draining = True
        await crowd.check(30)
        assert not any(session.moving for session in crowd.sessions)


async def test_a_session_is_not_sent_back_and_forth(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a move the session stays, even if its new worker is the slow one now."""
    caplog.set_level("INFO", "server.gateway.balance")
    async with crowded(monkeypatch) as crowd:
        guest = crowd.sessions[2]
        crowd.told()
        crowd.plays(rate=0.6)
        await crowd.check(SLOW_S + 1)
        await crowd.moved(guest, 4)
        crowd.workers[1].tell(packet(40, keyframe=True, session=guest.id))
        await until(
            lambda: f"w1 is slow: session {guest.id} was moved to w2" in caplog.text, "end of the move"
        )
        crowd.told(one=9, two=1)
        crowd.plays(rate=1.0, segment=5)
        crowd.gate.fleet.named("w2").others = 1
        crowd.workers[1].tell(replace(stats(5, guest.id), rate=0.5))
        await crowd.check(STAYS_S - SETTLE_S)
        assert guest.worker == "w2"
        assert not guest.moving
        await crowd.check(SETTLE_S + 2)
        await crowd.moved(guest, 6)
        assert crowd.where() == ["w1", "w1", "w1"]


async def test_a_move_that_fails_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crowded(monkeypatch) as crowd:
        crowd.workers[0].export_answer = lambda c: Exported(c.session, c.request, None, "unavailable", "no")
        crowd.told()
        crowd.plays(rate=0.6)
        await crowd.check(SLOW_S + 1)
        await until(lambda: crowd.sessions[2].moving, "begin")
        crowd.plays(rate=0.6, segment=5)
        await until(lambda: not crowd.sessions[2].moving, "failure")
        assert crowd.where() == ["w1", "w1", "w1"]
        await crowd.check(SETTLE_S - 1)
        assert not crowd.sessions[2].moving
        crowd.workers[0].export_answer = lambda c: Exported(c.session, c.request, b"moved", segment=5)
        await crowd.check(2)
        await crowd.moved(crowd.sessions[2], 6)
