"""Which session is ended when workers die again and again, and which ones go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from engine.types import SessionClosed
from server.gateway.fleet.probation import on_trial
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.session import GatewaySession
from server.worker.base import RestoreSession
from server.worker.messages.commands import Command
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.fake_worker import READY, FakeWorker
from tests.rigs.server.server_rig import gateway, join, until
from tests.server.gateway.replacement import replaced


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.01)
    monkeypatch.setattr("server.gateway.fleet.supervisor.FIRST_DELAY_S", 0.01)


class Deaths:
    """Kills each worker that is told to run the poisoned session, once it has been told everything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.poison = 0, ""
        send = FakeWorker.send

        def spy(worker: FakeWorker, command: Command | RestoreSession) -> None:
            send(worker, command)
            if isinstance(command, RestoreSession) and command.opening.session == self.poison:
                asyncio.get_running_loop().call_later(0.02, self.kill, worker)

        monkeypatch.setattr(FakeWorker, "send", spy)

    def kill(self, worker: FakeWorker) -> None:
        if not worker.closed:
            self.count += 1
            worker.die()


@pytest.mark.parametrize(("workers", "others"), [(1, 0), (1, 2), (2, 4), (3, 7)])
async def test_the_session_that_kills_workers_is_found_and_the_others_go_on(
    workers: int, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.rigs.server.fake_worker.READY", replace(READY, max_sessions=16))
    deaths = Deaths(monkeypatch)
    async with gateway(workers=workers) as (gate, made, heard):
        innocent = [gate.session("main"), *[await gate.open(f"dog {n}") for n in range(others)]]
        poison = await gate.open("poison")
        for session in (*innocent, poison):
            join(session.fanout)
        deaths.poison = poison.id
        deaths.kill(made[[w.name for w in gate.fleet].index(poison.worker)])
        await until(poison.closed.is_set, "end of the culprit", 60.0)
        ends = [replace(e, message="") for e in heard if isinstance(e, SessionClosed)]
        assert ends == [SessionClosed(poison.id, "worker_lost", "")]
        assert deaths.count <= 3 + others + 2
        await until(lambda: not any(s.orphaned or s.held for s in innocent), "all others", 60.0)
        assert not gate.fleet.first.given_up


async def test_workers_that_die_for_other_reasons_end_no_session() -> None:
    """Each death comes after all sessions have proved themselves, and they are tried by halves."""
    clock = ManualClock()
    async with gateway(clock, workers=2) as (gate, _, heard):
        sessions = [gate.session("main"), await gate.open("a dog")]
        for session in sessions:
            join(session.fanout)
        for _ in range(8):
            worker = gate.fleet.of(sessions[0])
            fake = worker.worker
            assert isinstance(fake, FakeWorker)
            fake.die()
            for _ in range(40):
                if not any(s.orphaned or on_trial(s, clock()) for s in sessions):
                    break
                clock.advance(1.0)
                await asyncio.sleep(0.03)
            assert not any(session.orphaned for session in sessions)
            await until(partial(settled, worker), "successor")
            if worker.given_up:
                break
        assert not [e for e in heard if isinstance(e, SessionClosed)]


async def test_a_sleeping_session_is_never_a_suspect() -> None:
    clock = ManualClock()
    async with gateway(clock) as (gate, workers, heard):
        asleep, paused, watched = gate.session("main"), await gate.open("b"), await gate.open("c")
        for session in (paused, watched):
            join(session.fanout)
        workers[0].tell(replace(paused.info, paused=True))
        clock.advance(10.0)  # the grace period of unwatched sessions
        for number in (2, 3, 4, 5, 6):
            assert gate.session_ids() == ["main", paused.id, watched.id]
            workers[-1].die()
            await replaced(gate, workers, number)
            clock.advance(1.0)
        await until(watched.closed.is_set, "end of the one that was generated each time")
        assert gate.session_ids() == ["main", paused.id]
        assert gate.session("main") is asleep
        assert [e.session for e in heard if isinstance(e, SessionClosed)] == [watched.id]


def settled(worker: Supervisor) -> bool:
    return worker.ready is not None or worker.given_up


def moved(session: GatewaySession, worker: Supervisor) -> bool:
    """Whether it left this worker, which has a successor."""
    return session.worker != worker.name and worker.ready is not None


async def test_a_worker_out_of_reach_says_nothing_about_its_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its host may be cut off: sessions are not to blame for that, however often it happens."""
    monkeypatch.setattr(FakeWorker, "outlives_gateway", True, raising=False)
    clock = ManualClock()
    async with gateway(clock, workers=2) as (gate, _, _):
        main = gate.session("main")
        join(main.fanout)
        for _ in range(3):
            worker = gate.fleet.of(main)
            fake = worker.worker
            assert isinstance(fake, FakeWorker)
            fake.mute = True
            for _ in range(10):
                clock.advance(1.0)
                await asyncio.sleep(0.03)
            await until(partial(moved, main, worker), "failover")
        assert (main.failovers, main.held) == (0, False)
