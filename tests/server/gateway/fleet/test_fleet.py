"""Several workers in one gateway: where sessions are opened, and where they continue when a worker dies."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from engine.errors import Full, InvalidInput
from engine.types import Capacity, Control, OpenSession, Prompt, SessionClosed
from server.gateway.gateway import Gateway
from server.worker.base import Alive, Numbers
from server.worker.messages.commands import SetViewers
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.port_rig import listening
from tests.rigs.server.server_rig import READY, FakeWorker, gateway, join, packet, stats, until
from tests.server.gateway.guests.gateways import connected, maker
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


@pytest.mark.parametrize("room", [True, False])
async def test_a_successor_starts_at_once_only_if_sessions_wait_for_it(
    room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting a worker takes a second of processor time, which restored sessions need."""
    monkeypatch.setattr("server.gateway.fleet.supervisor.LATER_S", 1000.0)
    async with gateway(workers=2) as (gate, workers, _):
        main = gate.session("main")
        join(main.fanout)
        if not room:
            workers[1].tell(Capacity(0, 0, 1.0))
        workers[0].die()
        if not room:
            await until(lambda: len(workers) == 3 and not main.orphaned, "successor")
            return
        assert main.worker == "w2"
        await asyncio.sleep(0.3)  # its successor would have started by now
        assert len(workers) == 2


async def test_a_session_that_kills_every_worker_is_ended() -> None:
    """This holds even for workers that had been running for long."""
    clock = ManualClock()
    async with gateway(clock, workers=6) as (gate, _, _):
        clock.advance(1000.0)
        poison = await gate.open("poison")
        join(poison.fanout)
        for _ in range(5):
            assert not poison.closed.is_set()
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


async def test_upkeep_goes_on_while_a_fork_waits_for_its_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that has no worker yet ended the upkeep of all others, for good."""
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.01)
    async with gateway(workers=2) as (gate, workers, _):
        await gate.open(fork_of="main")
        await gate.open(fork_of="main")
        workers[0].export_answer = lambda command: Alive()  # not yet
        forking = asyncio.create_task(gate.open(fork_of="main"))
        await until(lambda: any(not s.worker for s in gate.sessions), "a session without a worker")
        await asyncio.sleep(0.1)  # some rounds of upkeep
        assert any(task.get_name() == "upkeep" for task in asyncio.all_tasks())
        forking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await forking


async def test_a_fork_opens_beside_its_source_and_elsewhere_from_a_snapshot() -> None:
    async with gateway(workers=2) as (gate, workers, _):
        near = await gate.open(fork_of="main")
        await asyncio.sleep(0)
        workers[0].open_answer = lambda c: SessionClosed(c.session, "full", "the device is full")
        far = await gate.open(None, 9, fork_of="main", rewind_s=2.0)
        assert (near.worker, far.worker) == ("w1", "w2")
        assert told(workers[1], far.id)[0] == OpenSession(far.id, None, 9, snapshot=b"snapshot of main")


async def test_a_new_session_is_not_sent_to_a_worker_whose_places_are_reserved_for_sleepers() -> None:
    """The gateway used to count only what plays, so it asked in vain."""
    async with gateway(workers=2) as (gate, workers, _):
        workers[0].tell(Capacity(4, 1, 0.1, taken=1))
        workers[1].tell(Capacity(9, 40, 0.1, taken=9))  # of other gateways
        assert [worker.name for worker in gate.fleet.to_ask()] == ["w1"]
        assert [worker.name for worker in gate.fleet.to_ask("w2")] == ["w2", "w1"]  # for a fork
        assert gate.fleet.capacity_left(gate.fleet.named("w2")) == 0
        assert gate.fleet.other_worker("w1") is gate.fleet.named("w2")  # those who play come first
        gate.fleet.named("w2").others = 40
        assert gate.fleet.other_worker("w1") is None
        assert gate.fleet.capacity == Capacity(13, 41, 0.1, taken=10)


async def test_sessions_that_a_worker_has_not_reported_yet_count_as_it_will_count_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready = replace(READY, max_sessions=20, idle_share=0.25)
    monkeypatch.setattr("tests.rigs.server.fake_worker.READY", ready)
    async with gateway(workers=2) as (gate, workers, _):
        workers[1].tell(Capacity(4, 0, 0.0))
        for _ in range(8):
            session = await gate.open("a dog")
            gate.sessions.assign(session, "w2")
        assert gate.fleet.capacity_left(gate.fleet.named("w2")) == 4 - 2
        for session in list(gate.sessions.of("w2"))[:2]:
            join(session.fanout)
        assert gate.fleet.capacity_left(gate.fleet.named("w2")) == 4 - 2 - 1


async def test_if_no_worker_has_capacity_one_of_them_is_asked() -> None:
    """Its report may be out of date. The others would only answer the same."""
    async with gateway(workers=3) as (gate, workers, _):
        for worker in workers:
            worker.tell(Capacity(2, 2, 0.9, taken=2))
            worker.open_answer = lambda c: SessionClosed(c.session, "full", "the device is full")
        before = sum(len(worker.commands) for worker in workers)
        with pytest.raises(Full):
            await gate.open("a dog")
        assert sum(len(worker.commands) for worker in workers) == before + 1


async def test_a_worker_under_two_addresses_is_not_taken_for_two() -> None:
    """Its places counted twice, and a drain of one of them waited for the other for ever."""
    async with listening() as (_, port), AsyncExitStack() as stack:
        with pytest.raises(InvalidInput, match="is the same worker as"):
            await stack.enter_async_context(connected([maker(port), maker(port)], 1))
