"""A gateway that shows one copy of a session as a guest hears of another copy that nobody holds."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from engine.types import OpenSession, SessionClosed
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.worker.base import Numbers
from server.worker.epochs import claimed, copied
from server.worker.messages.holding import Claimed, ClaimSession, EndCopy, Fenced, Orphaned, Watched
from tests.rigs.server.server_rig import READY, FakeWorker, gateway, opened, until
from tests.server.gateway.replacement import told

OLD, NEW = 1, copied(1)
INFO = opened(OpenSession("s", "a dog", 5))


async def two_workers(stack: AsyncExitStack) -> tuple[Gateway, FakeWorker, FakeWorker]:
    gate, workers, _ = await stack.enter_async_context(gateway(workers=2))
    await until(lambda: len([worker for worker in gate.fleet if worker.ready]) == 2, "workers")
    for worker in workers:
        worker.outlives_gateway = True
    one, two = workers
    return gate, one, two


async def shown(gate: Gateway, worker: FakeWorker) -> GatewaySession:
    """This worker's new copy is shown as a guest's."""
    finding = asyncio.create_task(gate.guests.find("s"))
    await until(lambda: gate.guests.of("s"), "search")
    worker.tell(Watched("s", NEW, INFO, b""))
    found = await finding
    assert found is not None
    return found


async def test_an_older_copy_is_not_claimed_later_if_a_newer_one_is_shown_by_then() -> None:
    """Its viewers saw frames and time go back, until the newer copy lost its gateway too."""
    async with AsyncExitStack() as stack:
        gate, one, two = await two_workers(stack)
        gate.parts.adoption.may_claim = lambda session: False
        one.tell(Orphaned("s", OLD))
        guest = await shown(gate, two)
        gate.parts.adoption.may_claim = lambda session: True
        gate.parts.adoption.claim_deferred()
        assert ClaimSession("s", claimed(OLD)) not in told(one, "s")
        assert EndCopy("s", NEW) in told(one, "s")
        assert gate.guests.get("s") is guest


async def test_a_claim_of_an_older_copy_that_is_granted_when_a_newer_one_is_shown_ends_it() -> None:
    async with AsyncExitStack() as stack:
        gate, one, two = await two_workers(stack)
        one.tell(Orphaned("s", OLD))
        guest = await shown(gate, two)
        assert ClaimSession("s", claimed(OLD)) in told(one, "s")
        one.tell(Claimed("s", claimed(OLD), INFO, b""))
        assert EndCopy("s", NEW) in told(one, "s")
        assert gate.guests.get("s") is guest
        assert "s" not in gate.sessions


async def test_a_claim_that_cannot_be_sent_is_not_waited_for() -> None:
    """A guest asked the other workers for a newer copy first; meanwhile this one was lost."""
    async with AsyncExitStack() as stack:
        gate, one, _ = await two_workers(stack)
        one.die()
        gate.parts.adoption.orphaned(gate.fleet.named("w1"), Orphaned("s", OLD))
        assert gate.parts.adoption._claims == {}


async def test_what_somebody_holds_again_is_not_claimed_later() -> None:
    """A guest ended its owner's copy half a minute later, in the middle of a move, and both gave way."""
    async with AsyncExitStack() as stack:
        gate, one, two = await two_workers(stack)
        gate.parts.adoption.may_claim = lambda session: False
        one.tell(Orphaned("s", OLD))
        one.tell(Fenced("s", claimed(OLD)))
        await shown(gate, two)
        before = told(one, "s")
        gate.parts.adoption.may_claim = lambda session: True
        gate.parts.adoption.claim_deferred()
        assert told(one, "s") == before


async def test_a_session_that_has_moved_stays_though_its_last_worker_ends_what_it_left() -> None:
    """It took that worker for one with an equally new copy, and gave way."""
    async with AsyncExitStack() as stack:
        gate, *_ = await two_workers(stack)
        mine = await gate.open("a dog", 5)
        source = gate.fleet.of(mine)
        target = next(worker for worker in gate.fleet if worker is not source)
        gate.parts.failover.reopen_in(mine, target, Numbers())
        for name in ("a", "z"):  # of two equally new ones the instance decides
            source.ready = replace(READY, instance=name)
            target.ready = replace(READY, instance="m")
            gate.worker_event(source, Fenced(mine.id, mine.lease_epoch, elsewhere=True))
            assert gate.sessions.get(mine.id) is mine


async def test_a_late_answer_to_a_guest_does_not_end_the_session_that_has_come_there_since() -> None:
    """The gateway had looked for it in all workers, claimed it in one, lost that and restored it in
    the other: there the session ran on, and nobody had it."""
    async with AsyncExitStack() as stack:
        gate, *_ = await two_workers(stack)
        mine = await gate.open("a dog", 5)
        worker = gate.fleet.of(mine)
        gate.worker_event(worker, SessionClosed(mine.id, "unknown_session", "no session has this id"))
        assert gate.sessions.get(mine.id) is mine
        gate.worker_event(worker, SessionClosed(mine.id, "closed", "the session was closed", epoch=1))
        assert mine.id not in gate.sessions
