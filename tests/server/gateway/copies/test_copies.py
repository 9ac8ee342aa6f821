"""Two workers run the same session, or one runs it that nobody wants: the newer copy stays, and no other."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from engine.errors import Unavailable
from engine.types import OpenSession, SessionClosed
from server.gateway.gateway import Gateway
from server.worker.base import Event, Order
from server.worker.epochs import CLAIMS, CLOSED, claimed, copied
from server.worker.messages.commands import CloseSession
from server.worker.messages.holding import Claimed, ClaimSession, EndCopy, Fenced, Orphaned
from tests.rigs.server.port_rig import vanish
from tests.rigs.server.server_rig import FakeWorker, gateway, opened, until
from tests.server.gateway.guests.gateways import gateways
from tests.server.gateway.replacement import told

OLD, NEW = 1, copied(1)
INFO = opened(OpenSession("s", "a dog", 5))


def test_a_copy_begins_above_all_claims_of_what_it_continues() -> None:
    epoch = 1
    for _ in range(CLAIMS - 2):
        epoch = claimed(epoch)
        assert epoch < copied(1)
    assert copied(1) < claimed(copied(1)) < copied(copied(1))


def granted(worker: FakeWorker, epoch: int) -> Event:
    """The answer to a claim of what has this epoch."""
    assert ClaimSession("s", claimed(epoch)) in told(worker, "s")
    return Claimed("s", claimed(epoch), INFO, b"")


def ended(worker: FakeWorker) -> list[Order]:
    return [order for order in told(worker, "s") if isinstance(order, EndCopy)]


ORDERS = [o for o in itertools.permutations(range(4)) if o.index(0) < o.index(2) and o.index(1) < o.index(3)]


@pytest.mark.parametrize("order", ORDERS)  # a claim is answered after it was made
async def test_of_two_copies_the_newer_one_goes_on(order: tuple[int, ...]) -> None:
    """Their gateway was killed when it had just moved the session: the old copy was taken, the new one
    ignored, and when the old one ended, as it had been told to, the session was gone."""
    async with gateway(workers=2) as (gate, workers, heard):
        await until(lambda: len(workers) == 2 and len([w for w in gate.fleet if w.ready]) == 2, "workers")
        one, two = workers
        for step in order:
            match step:
                case 0:
                    one.tell(Orphaned("s", OLD))
                case 1:
                    two.tell(Orphaned("s", NEW))
                case 2 if any(isinstance(o, ClaimSession) for o in told(one, "s")):
                    claim = next(o for o in told(one, "s") if isinstance(o, ClaimSession))
                    one.tell(Claimed("s", claim.epoch, INFO, b""))
                case 3:
                    claim = next(o for o in told(two, "s") if isinstance(o, ClaimSession))
                    two.tell(Claimed("s", claim.epoch, INFO, b""))
        await until(lambda: ended(one), "the end of the old copy")
        session = gate.session("s")
        assert (session.worker, session.lease_epoch >= claimed(NEW)) == ("w2", True)
        assert not ended(two)
        one.tell(SessionClosed("s", "closed", "as it was told"))
        assert gate.session("s") is session
        assert not [e for e in heard if isinstance(e, SessionClosed)]


@pytest.mark.parametrize("first", ["claimed", "fenced"])
async def test_another_gateway_has_the_newer_copy(first: str) -> None:
    """Each of two gateways got one of the two copies: only the newer one is shown."""
    async with gateway(workers=2) as (gate, workers, heard):
        await until(lambda: len(workers) == 2 and len([w for w in gate.fleet if w.ready]) == 2, "workers")
        one, two = workers
        one.tell(Orphaned("s", OLD))
        two.tell(Orphaned("s", NEW))
        answers = [(one, granted(one, OLD)), (two, Fenced("s", claimed(NEW)))]
        for worker, answer in answers if first == "claimed" else answers[::-1]:
            worker.tell(answer)
        assert "s" not in gate.sessions
        assert len(ended(one)) == 1
        assert not ended(two)
        ends = [(e.session, e.code) for e in heard if isinstance(e, SessionClosed)]
        assert ends == ([("s", "fenced")] if first == "claimed" else [])


@pytest.mark.parametrize("outlives", [True, False])
async def test_a_worker_is_told_once_that_a_session_is_closed(outlives: bool) -> None:
    """One that outlives its gateways is told to remember that. It was told twice."""
    async with gateway() as (gate, (worker,), _):
        worker.outlives_gateway = outlives
        mine = await gate.open("a dog")
        await gate.close_session(mine.id)
        orders = [order for order in told(worker, mine.id) if isinstance(order, EndCopy | CloseSession)]
        assert orders == [EndCopy(mine.id, CLOSED) if outlives else CloseSession(mine.id)]


async def closed_while_away(gate: Gateway, workers: list[FakeWorker]) -> str:
    """A session whose worker is out of reach when a client closes it."""
    workers[0].outlives_gateway = True
    mine = await gate.open("a dog")
    workers[0].mute = True
    workers[0].die()
    await gate.close_session(mine.id)
    return mine.id


async def test_what_was_closed_while_its_worker_was_away_does_not_come_back() -> None:
    """The worker still ran it, and a gateway took it over as if it had been lost."""
    async with gateway() as (gate, workers, _):
        name = await closed_while_away(gate, workers)
        workers[0].orphans = (Orphaned(name, 1),)
        await until(lambda: len(workers) == 2 and gate.ready, "its return")
        assert told(workers[1], name) == [EndCopy(name, CLOSED)]
        assert name not in gate.sessions
        assert "main" in gate.sessions


async def test_what_was_closed_is_closed_though_another_gateway_has_claimed_it_meanwhile() -> None:
    """It went on there, for those who had not closed it."""
    async with gateway() as (gate, workers, _):
        name = await closed_while_away(gate, workers)
        workers[0].held = (Fenced(name, copied(copied(1))),)
        await until(lambda: len(workers) == 2 and gate.ready, "its return")
        assert told(workers[1], name) == [EndCopy(name, CLOSED)]


async def test_what_was_restored_elsewhere_is_ended_when_its_worker_is_back() -> None:
    """Also where another gateway holds the old copy, so that nobody says that it is orphaned."""
    async with gateway(workers=2) as (gate, workers, _):
        await until(lambda: len(workers) == 2, "workers")
        for worker in workers:
            worker.outlives_gateway = True
        mine = await gate.open("a dog")
        lost = next(w for w in workers if told(w, mine.id))
        lost.held = (Fenced(mine.id, claimed(1)),)
        lost.die()
        await until(lambda: not mine.orphaned, "another worker")
        await until(lambda: len(workers) == 3, "its return")
        await until(lambda: told(workers[2], mine.id), "word of it")
        assert told(workers[2], mine.id) == [EndCopy(mine.id, mine.lease_epoch)]
        assert mine.id in gate.sessions


async def test_what_was_being_opened_when_its_worker_was_lost_does_not_come_back() -> None:
    """Its client was told that it was not opened. The worker had opened it, and it was taken over as lost."""
    async with gateway() as (gate, workers, _):
        workers[0].outlives_gateway = True
        workers[0].mute = True
        opening = asyncio.create_task(gate.open("a dog"))
        await until(lambda: len(gate.sessions) == 2, "session")
        name = next(session.id for session in gate.sessions if session.id != "main")
        workers[0].die()
        with pytest.raises(Unavailable):
            await opening
        workers[0].orphans = (Orphaned(name, 1),)
        await until(lambda: len(workers) == 2 and gate.ready, "its return")
        assert told(workers[1], name) == [EndCopy(name, CLOSED)]
        assert name not in gate.sessions


async def test_the_next_copy_has_its_record_at_once() -> None:
    """A gateway that died within a second of a failover left a copy without tokens."""
    async with gateways(2, workers=2) as ((one, two), hosts):
        mine = await one.open("a dog", 5)
        hashes = mine.token_hashes
        source = one.fleet.of(mine)
        target = next(worker for worker in one.fleet if worker is not source)
        assert await one.parts.migration.move(mine, target)
        vanish(one)
        await until(lambda: mine.id in two.sessions, "the claim")
        taken = two.session(mine.id)
        assert taken.token_hashes == hashes
        await until(lambda: taken.worker == target.name, "the newer copy")
        await until(lambda: sum(h.mail.leases.get(mine.id) is not None for h in hosts) == 1, "one copy")
        assert mine.id in two.sessions
