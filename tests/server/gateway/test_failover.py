"""Failover: which sessions continue, which controls are submitted again, what viewers are told, and when it
gives up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from engine.types import (
    Action,
    Control,
    OpenSession,
    Pause,
    Prompt,
    Receipt,
    SessionClosed,
    SessionInfo,
    Stall,
)
from server.worker.base import Applied, Numbers
from server.worker.messages.commands import SetViewers
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import (
    applied,
    gateway,
    join,
    opened,
    packet,
    recorded,
    stats,
    until,
)
from tests.rigs.waiting import LONG_S
from tests.server.gateway.replacement import replaced, told

PAUSE = Control("c1", Pause())


@pytest.mark.usefixtures("often")
async def test_a_session_continues_from_its_latest_snapshot() -> None:
    async with gateway() as (gate, workers, heard):
        mine = await gate.open("a blue dog", 5)
        workers[0].tell(stats(session=mine.id))
        await until(lambda: mine.recovery.reopening("") != OpenSession("", "a blue dog", 5), "snapshot")
        workers[0].die()
        assert mine.orphaned
        second = await replaced(gate, workers)
        expected = OpenSession(mine.id, None, None, snapshot=f"snapshot of {mine.id}".encode())
        assert told(second, mine.id)[:2] == [expected, SetViewers(mine.id, {})]
        assert gate.session(mine.id) is mine
        assert mine.token
        assert not [e for e in heard if isinstance(e, SessionClosed)]
        assert workers[0].closed
        assert gate.metrics.registry.get_sample_value("psistream_sessions_resumed_total") == 2
        assert (
            gate.metrics.registry.get_sample_value("psistream_worker_restarts_total", {"worker": "w1"}) == 1
        )


async def test_without_a_snapshot_it_starts_as_it_was_opened() -> None:
    async with gateway(snapshot_every_s=0.0) as (gate, workers, _):
        workers[0].die()
        second = await replaced(gate, workers)
        assert told(second) == [OpenSession("main", "a red cat", 7), SetViewers("main", {})]


async def test_a_session_that_was_being_closed_does_not_come_back() -> None:
    async with gateway() as (there, workers, _):
        session = await there.open("a", 1, None)
        workers[0].mute = True  # it dies before it can answer
        closing = asyncio.create_task(there.close_session(session.id))
        await until(lambda: session.closing, "request to close")
        workers[0].die()
        await asyncio.wait_for(closing, LONG_S)
        await until(lambda: len(workers) == 2 and workers[1].commands, "next worker")
        assert [c.session for c in workers[1].commands if isinstance(c, OpenSession)] == ["main"]


async def test_received_controls_are_applied_once_in_the_next_worker() -> None:
    """Clients need not send a prompt again after a crash, and no receipt is sent twice."""
    async with gateway() as (gate, workers, heard):
        done, waits = Control("done", Prompt("a blue dog")), Control("waits", Prompt("a green dog"))
        gate.submit("main", done)
        workers[0].tell(applied("main", "done"))
        gate.submit("main", waits)
        workers[0].die()
        late = Control("late", Prompt("a pink dog"))
        assert gate.submit("main", late).status == "received"
        second = await replaced(gate, workers)
        assert second.submitted() == [done, waits, late]
        heard.clear()
        for control in (done, waits, late):
            second.tell(applied("main", control.id))
        assert [e.id for e in heard if isinstance(e, Receipt)] == ["waits", "late"]


@pytest.mark.usefixtures("often")
async def test_controls_that_a_snapshot_contains_are_not_repeated() -> None:
    async with gateway(snapshot_every_s=0.001) as (gate, workers, _):
        gate.submit("main", Control("shown", Prompt("a blue dog", "cut")))
        workers[0].tell(applied("main", "shown", segment=3))
        workers[0].tell(stats(segment=3))
        await until(lambda: not len(gate.session("main").recovery), "snapshot")
        workers[0].die()
        second = await replaced(gate, workers)
        assert second.submitted() == []


async def test_held_actions_and_pauses_are_restored_without_receipts() -> None:
    async with gateway() as (gate, workers, heard):
        workers[0].tell(replace(gate.session("main").info, paused=True, action="left"))
        workers[0].die()
        second = await replaced(gate, workers)
        assert [c.body for c in second.submitted()] == [Action("left"), Pause()]
        heard.clear()
        for control in second.submitted():
            second.tell(applied("main", control.id))
        assert heard == []


async def test_viewers_are_told_how_long_the_stall_lasts() -> None:
    clock = ManualClock()
    async with gateway(clock) as (gate, workers, heard):
        join(gate.session("main").fanout)
        workers[0].tell(stats())
        heard.clear()
        workers[0].die()
        assert [e.buffering for e in heard if isinstance(e, SessionInfo)] == [Stall(1.0, 1.0, 1.0)]
        second = await replaced(gate, workers)
        clock.advance(2.0)
        second.tell(opened(OpenSession("main", None, None)))
        assert gate.info("main").buffering == Stall(1.0, 1.0, 0.0)
        second.tell(stats(segment=2))
        assert gate.info("main").buffering is None
        assert gate.metrics.registry.get_sample_value("psistream_failover_seconds_sum") == 2.0
        assert gate.metrics.registry.get_sample_value("psistream_sessions_buffering") == 0


async def test_media_time_follows_the_wall_clock_and_numbers_continue() -> None:
    """A browser interprets a timestamp that goes back as hours of waiting. The next worker is told where to
    continue, and what it says is passed on as it is."""
    clock = ManualClock()
    async with gateway(clock) as (gate, workers, heard):
        sent = recorded(gate.session("main").fanout)
        workers[0].tell(stats(segment=10))
        workers[0].tell(packet(80))
        workers[0].deaf = True  # so that its successor is told later
        clock.advance(3.0)
        workers[0].die()
        second = await replaced(gate, workers)
        clock.advance(2.0)
        second.deaf = False
        gate.parts.failover.restore_all()
        assert second.restored[0].numbers == Numbers(1, 11, 88, 450_000 + 5 * 90_000)
        second.tell(packet(88))
        gate.submit("main", PAUSE)
        second.tell(Applied(applied("main", "c1", segment=13, frame=104), 990_000))
        assert [(p.frame, p.pts_90k) for p in sent] == [(80, 450_000), (88, 495_000)]
        assert heard[-1] == applied("main", "c1", segment=13, frame=104)
        assert gate.session("main").pts_of(104) == 990_000


async def test_events_of_a_replaced_worker_are_ignored() -> None:
    async with gateway() as (gate, workers, heard):
        workers[0].die()
        await replaced(gate, workers)
        heard.clear()
        workers[0].tell(SessionClosed("main", "closed", ""))
        workers[0].die()
        assert heard == []
        assert gate.ready is not None
