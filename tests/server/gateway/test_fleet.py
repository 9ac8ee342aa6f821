"""Several workers in one gateway: where sessions are opened, and where they continue when a worker dies."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import Full
from engine.types import Capacity, Control, OpenSession, Prompt, SessionClosed
from server.gateway.gateway import Gateway
from server.worker.base import Numbers
from server.worker.messages import SetViewers
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import FakeWorker, gateway, join, packet, stats, until
from tests.server.gateway.replacement import told


def on(gate: Gateway) -> list[str]:
    """The worker of each session."""
    return [session.worker for session in gate.sessions]


async def test_main_is_on_the_first_worker_and_others_where_capacity_is() -> None:
    async with gateway(workers=3) as (gate, workers, _):
        for _ in range(4):
            await gate.open("a dog")
        assert on(gate) == ["w1", "w2", "w3", "w1", "w2"]
        assert told(workers[0])[0] == OpenSession("main", "a red cat", 7)
        assert gate.metrics.registry.get_sample_value("psistream_session_slots_free") == 9 - 5
        assert gate.metrics.registry.get_sample_value("psistream_worker_sessions", {"worker": "w2"}) == 2


async def test_a_worker_that_refuses_is_skipped_silently() -> None:
    async with gateway(workers=2) as (gate, workers, heard):
        workers[1].open_answer = lambda c: SessionClosed(c.session, "full", "the device is full")
        mine = await gate.open("a dog")
        assert mine.worker == "w1"
        assert not [event for event in heard if isinstance(event, SessionClosed)]


async def test_if_all_workers_refuse_the_client_is_refused() -> None:
    async with gateway(workers=2) as (gate, workers, _):
        for worker in workers:
            worker.open_answer = lambda c: SessionClosed(c.session, "full", "no", retry_after_s=7)
        with pytest.raises(Full) as refusal:
            await gate.open("a dog")
        assert refusal.value.retry_after_s == 7.0
        assert gate.session_ids() == ["main"]


async def test_all_places_taken() -> None:
    async with gateway(workers=2) as (gate, _, _):
        for _ in range(5):
            await gate.open("a dog")
        with pytest.raises(Full, match="all 6 sessions"):
            await gate.open("a dog")


async def test_the_sessions_of_a_dead_worker_continue_in_another_at_once() -> None:
    """They continue without waiting for the dead worker's successor, with their controls and continuous
    numbers."""
    clock = ManualClock()
    async with gateway(clock, workers=2) as (gate, workers, heard):
        workers[0].tell(stats(segment=10))
        workers[0].tell(packet(80))
        control = Control("waits", Prompt("a green dog"))
        gate.submit("main", control)
        clock.advance(0.2)
        workers[0].die()
        assert gate.session("main").worker == "w2"
        assert told(workers[1])[:2] == [OpenSession("main", "a red cat", 7), SetViewers("main", {})]
        assert workers[1].submitted() == [control]
        assert workers[1].restored[0].numbers == Numbers(1, 11, 88, 468_000)
        assert not [event for event in heard if isinstance(event, SessionClosed)]
        await until(lambda: len(workers) == 3 and gate.fleet.first.ready, "the dead one's successor")
        assert gate.session("main").worker == "w2"
        assert gate.fault is None


async def test_without_capacity_elsewhere_the_place_is_kept() -> None:
    async with gateway(workers=2) as (gate, workers, _):
        for worker in workers:
            worker.tell(Capacity(1, 1, 0.9))
        theirs = await gate.open("a dog")
        join(theirs.fanout)
        assert theirs.worker == "w2"
        workers[0].die()
        main = gate.session("main")
        assert main.orphaned
        await until(lambda: len(workers) == 3 and not main.orphaned, "the successor")
        assert main.worker == "w1"
        assert told(workers[2])[0] == OpenSession("main", "a red cat", 7)


async def test_sessions_of_an_abandoned_worker_move_even_beyond_capacity() -> None:
    async with gateway(workers=2, restart_limit=0) as (gate, workers, _):
        workers[1].tell(Capacity(1, 1, 0.9))
        join((await gate.open("a dog")).fanout)
        workers[0].die()
        await until(lambda: gate.fleet.first.given_up, "resignation")
        assert on(gate) == ["w2", "w2"]
        assert not gate.given_up
        assert gate.fault is None


async def test_a_session_that_kills_every_worker_is_ended() -> None:
    """This holds even for workers that had been running for long."""
    clock = ManualClock()
    async with gateway(clock, workers=4) as (gate, _, _):
        clock.advance(1000.0)
        poison = await gate.open("poison")
        join(poison.fanout)
        for _ in range(3):
            clock.advance(1.0)
            victim = gate.fleet.of(poison).worker
            assert isinstance(victim, FakeWorker)
            victim.die()
        assert poison.closed.is_set()


async def test_events_of_the_old_worker_about_a_moved_session_are_ignored() -> None:
    async with gateway(workers=2) as (gate, workers, heard):
        workers[0].die()
        await until(lambda: len(workers) == 3 and gate.fleet.first.ready, "successor")
        heard.clear()
        workers[2].tell(SessionClosed("main", "closed", ""))
        assert heard == []
        assert gate.session("main").worker == "w2"


async def test_a_fork_opens_beside_its_source_and_elsewhere_from_a_snapshot() -> None:
    async with gateway(workers=2) as (gate, workers, _):
        near = await gate.open(fork_of="main")
        await asyncio.sleep(0)
        workers[0].open_answer = lambda c: SessionClosed(c.session, "full", "the device is full")
        far = await gate.open(None, 9, fork_of="main", rewind_s=2.0)
        assert (near.worker, far.worker) == ("w1", "w2")
        assert told(workers[1], far.id)[0] == OpenSession(far.id, None, 9, snapshot=b"snapshot of main")
