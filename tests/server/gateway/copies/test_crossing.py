"""What a worker says about an older copy of a session, or answers to an older claim, while the gateway has
said something newer: found by simulation (tests/server/simulation)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from engine.types import OpenSession, SessionClosed
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.worker.base import RestoreSession
from server.worker.epochs import claimed, copied
from server.worker.messages.commands import CloseSession, ExportSession
from server.worker.messages.events import Exported
from server.worker.messages.holding import Claimed, ClaimSession, Fenced, Moved, Orphaned, Watched
from tests.rigs.server.server_rig import (
    FakeWorker,
    exported,
    gateway,
    join,
    opened,
    packet,
    recorded,
    stats,
    until,
)
from tests.server.gateway.replacement import told

INFO = opened(OpenSession("s", "a dog", 5))


def claims(worker: FakeWorker) -> list[int]:
    return [order.epoch for order in told(worker, "s") if isinstance(order, ClaimSession)]


def waiting(gate: Gateway) -> set[str]:
    """Sessions whose claims have not been answered."""
    return set(gate.parts.adoption._claims)


async def both_running(gate: Gateway, workers: list[FakeWorker]) -> None:
    await until(lambda: len([each for each in gate.fleet if each.ready]) == len(workers) == 2, "workers")


async def watched(gate: Gateway, workers: list[FakeWorker]) -> tuple[GatewaySession, FakeWorker, FakeWorker]:
    """A session with a viewer, the worker that runs it, and the other one."""
    await both_running(gate, workers)
    mine = await gate.open("a dog")
    join(mine.fanout)
    here, there = workers if mine.worker == "w1" else workers[::-1]
    return mine, here, there


async def moved_away(gate: Gateway, session: GatewaySession) -> bool:
    """Move it to the other worker. Returns whether that succeeded."""
    target = next(worker for worker in gate.fleet if worker.name != session.worker)
    return await gate.parts.migration.move(session, target)


async def test_the_end_of_an_older_copy_does_not_end_the_one_that_replaces_it() -> None:
    """A worker was told to end a copy, and at once given the session again."""
    async with gateway() as (gate, workers, _):
        mine = await gate.open("a dog")
        workers[0].die()
        await until(lambda: len(workers) == 2 and workers[1].restored, "restored session")
        restored = {order.opening.session: order for order in workers[1].restored}[mine.id]
        assert isinstance(restored, RestoreSession)
        for epoch in (1, restored.epoch - 1):
            workers[1].tell(SessionClosed(mine.id, "closed", "as it was told", epoch=epoch))
            workers[1].tell(SessionClosed(mine.id, "unknown_session", "a second time", epoch=epoch))
        assert gate.session(mine.id) is mine
        workers[1].tell(SessionClosed(mine.id, "closed", "this one", epoch=restored.epoch))
        assert mine.id not in gate.sessions


async def test_a_session_is_claimed_once_however_often_it_is_offered() -> None:
    """The second claim was refused, since the first one had been granted, and the session ended here."""
    async with gateway() as (gate, (worker,), heard):
        worker.tell(Orphaned("s", 1))
        worker.tell(Orphaned("s", 1))
        assert claims(worker) == [2]
        worker.tell(Claimed("s", 2, INFO, b""))
        assert "s" in gate.sessions
        assert not [event for event in heard if isinstance(event, SessionClosed)]


async def test_a_refused_claim_does_not_undo_a_later_one() -> None:
    """A gateway that was suspended got two offers at once, of which the first was out of date."""
    async with gateway() as (gate, (worker,), _):
        worker.tell(Orphaned("s", 1))
        worker.tell(Orphaned("s", 2))
        assert claims(worker) == [2, 3]
        worker.tell(Fenced("s", 2))
        worker.tell(Claimed("s", 3, INFO, b""))
        assert gate.session("s").lease_epoch == 3
        assert not waiting(gate)


async def test_a_claim_that_is_granted_after_a_restore_was_sent_counts() -> None:
    """Of two copies the older one was granted first, its worker died, and the session was restored where the
    newer one ran: that was refused, since this gateway had claimed the newer one."""
    async with gateway(workers=2) as (gate, workers, heard):
        await both_running(gate, workers)
        old, new = workers
        new.tell(Orphaned("s", copied(1)))
        old.tell(Orphaned("s", 1))
        old.tell(Claimed("s", 2, INFO, b""))
        session = gate.session("s")
        old.die()
        await until(lambda: session.worker == "w2" and not session.orphaned, "restored session")
        new.tell(Claimed("s", claimed(copied(1)), INFO, b""))
        new.tell(Fenced("s", claimed(copied(1))))
        assert gate.session("s") is session
        assert claims(new)[-1] == session.lease_epoch > claimed(copied(1))
        assert not [event for event in heard if isinstance(event, SessionClosed)]


async def test_claims_of_a_worker_that_is_lost_are_forgotten() -> None:
    async with gateway() as (gate, workers, _):
        workers[0].tell(Orphaned("s", 1))
        assert waiting(gate) == {"s"}
        workers[0].die()
        assert not waiting(gate)


async def test_a_claim_is_answered_though_the_session_is_shown_as_a_guests() -> None:
    async with gateway() as (gate, (worker,), _):
        worker.outlives_gateway = True
        worker.tell(Orphaned("s", 1))
        finding = asyncio.create_task(gate.guests.find("s"))
        await until(lambda: gate.guests.of("s"), "search")
        worker.tell(SessionClosed("s", "unknown_session", "it has ended", epoch=claimed(1)))
        assert not waiting(gate)
        await gate.guests.close("closed", "end of the test")
        await finding


async def test_a_session_that_is_being_closed_is_not_moved() -> None:
    """Its old worker ended it, and the new one was never told."""
    async with gateway(workers=2, snapshot_every_s=0.0) as (gate, workers, _):
        mine, here, there = await watched(gate, workers)
        asked: list[ExportSession] = []

        def later(order: ExportSession) -> Exported:
            asked.append(order)
            mine.closing = True  # a client closes it meanwhile
            return exported(order)

        here.export_answer = later
        moving = asyncio.create_task(moved_away(gate, mine))
        await asyncio.sleep(0)
        here.tell(stats(1, mine.id))
        assert not await moving
        assert asked
        assert not told(there, mine.id)


@pytest.mark.parametrize("sign", ["figures", "packet"])
async def test_a_snapshot_that_comes_late_does_not_turn_media_time_back(sign: str) -> None:
    """The old worker had begun to show the next segment, with the time at which the new one was to start."""
    async with gateway(workers=2, snapshot_every_s=0.0) as (gate, workers, _):
        mine, here, there = await watched(gate, workers)

        def late(order: ExportSession) -> Exported:
            first = replace(packet(40, session=mine.id), pts_90k=270_000)
            here.tell(first if sign == "packet" else replace(stats(5, mine.id), pts_90k=270_000))
            return Exported(order.session, order.request, b"moved", segment=4, end_90k=270_000)

        here.export_answer = late
        moving = asyncio.create_task(moved_away(gate, mine))
        await asyncio.sleep(0)
        here.tell(replace(stats(4, mine.id), pts_90k=225_000))
        await until(lambda: there.restored, "move")
        numbers = there.restored[0].numbers
        assert (numbers.segment, numbers.frame) == (6, 48)
        assert numbers.media_90k > 270_000
        there.tell(stats(6, mine.id))
        await moving


async def test_a_guest_is_not_shown_what_its_worker_plays_after_the_session_has_moved() -> None:
    """The new worker was slow to answer; its pictures followed later ones of the old worker."""
    async with gateway() as (gate, (worker,), _):
        worker.outlives_gateway = True
        finding = asyncio.create_task(gate.guests.find("s"))
        await until(lambda: gate.guests.of("s"), "search")
        worker.tell(Watched("s", 1, INFO, b""))
        guest = await finding
        assert guest is not None
        sent = recorded(guest.fanout)
        worker.tell(Moved("s", 1, copied(1)))
        for frame in (8, 15, 16, 24):
            worker.tell(packet(frame, session="s"))
        assert [each.frame for each in sent] == [8, 15]
        worker.tell(Watched("s", copied(copied(1)), INFO, b""))  # it came back
        worker.tell(packet(24, session="s"))
        assert [each.frame for each in sent] == [8, 15, 24]


async def test_a_close_that_nobody_answers_is_told_to_the_worker_that_has_the_session_now() -> None:
    async with gateway() as (gate, (worker,), _):
        mine = await gate.open("a dog")
        worker.mute = True
        gate.fleet.first.health._silent_s = 60.0  # so it is not waited for
        await gate.close_session(mine.id)
        assert told(worker, mine.id).count(CloseSession(mine.id)) == 2
        assert mine.id not in gate.sessions
