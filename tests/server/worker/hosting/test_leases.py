"""Whose a session is: silence, claims and fences, by a clock that the test sets."""

from __future__ import annotations

import asyncio

from engine.types import OpenSession, Receipt, SessionClosed, SessionInfo
from server.worker.base import Applied, RestoreSession
from server.worker.hosting.guests import NO_SESSION
from server.worker.hosting.leases import CLOSE_S, SILENT_S, STOP_S, Leases, LeaseStage
from server.worker.messages.commands import CloseSession, SetViewers
from server.worker.messages.events import Packet
from server.worker.messages.holding import Claimed, ClaimSession, Fenced, KeepRecord, Orphaned
from server.worker.remote import RemoteWorker
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.port_rig import listening, remote
from tests.rigs.waiting import until
from tests.server.worker.working import Heard


def test_silence_is_answered_in_three_stages() -> None:
    leases = Leases()
    leases.open("s", "a", 1, 100.0)
    told = []
    for now_s in (102.9, 100 + SILENT_S, 114.9, 100 + STOP_S, 219.9, 100 + CLOSE_S, 500.0):
        told.append([lease.stage for lease in leases.look(now_s)])
    assert told == [[], [LeaseStage.SILENT], [], [LeaseStage.STOPPED], [], [LeaseStage.OVER], []]


def test_a_sign_of_life_brings_it_back_unless_it_is_old() -> None:
    leases = Leases()
    leases.open("s", "a", 1, 0.0)
    leases.look(20.0)
    assert leases.heard("a", 10.0, 20.0) == []
    assert [lease.session for lease in leases.heard("a", 19.0, 20.0)] == ["s"]
    assert leases.look(20.0) == []


def test_the_higher_epoch_has_it() -> None:
    leases = Leases()
    assert leases.open("s", "a", 1, 0.0)
    assert not leases.open("s", "b", 1, 0.0)
    assert leases.claim("s", "b", 1, 0.0) is None
    assert leases.claim("nobody", "b", 1, 0.0) is None
    assert leases.owned("s", "a")
    assert leases.claim("s", "b", 2, 0.0)
    assert leases.owned("s", "a") is None
    assert leases.owned("s", "b")


async def opened(worker: RemoteWorker, heard: Heard, session: str = "s") -> None:
    await worker.start()
    worker.send(OpenSession(session, "a red cat", 1))
    worker.send(SetViewers(session, {"vp8": 1}))
    await until(heard.packets, "packets")


async def silenced(worker: RemoteWorker) -> None:
    """Its connection stays; nothing comes from it any more."""
    await worker._link._tasks.close()


async def test_a_gateway_that_is_silent_is_sent_nothing_and_may_come_back() -> None:
    clock, heard, others = ManualClock(), Heard(), Heard()
    async with listening(clock=clock) as (host, port):
        first, second = remote(port, heard.hear), remote(port, others.hear)
        await opened(first, heard)
        await second.start()
        await silenced(first)
        clock.advance(SILENT_S + 0.1)
        second.send(CloseSession("nobody"))
        await until(lambda: Orphaned("s", 1) in others, "word that nobody holds it")
        lease = host.mail.leases.get("s")
        assert lease is not None
        assert lease.stage is LeaseStage.SILENT
        heard.clear()
        first.send(KeepRecord("s", b"here I am"))
        await until(heard.packets, "packets again")
        await first.close()
        await second.close()


async def test_receipts_reach_a_gateway_that_was_silent_and_one_that_claims() -> None:
    """Otherwise a client that was told `received` would wait for ever."""
    clock, heard, others = ManualClock(), Heard(), Heard()
    done, later = (Receipt("s", name, "applied", segment=3, frame=24) for name in ("done", "later"))
    async with listening(clock=clock) as (host, port):
        first, second = remote(port, heard.hear), remote(port, others.hear)
        await opened(first, heard)
        await silenced(first)
        clock.advance(SILENT_S + 0.1)
        lease = host.mail.leases.get("s")
        assert lease is not None
        await until(lambda: lease.stage is LeaseStage.SILENT, "silence")
        host.mail.emit(done)
        await until(lambda: done in heard, "receipt")
        await first.close()
        await until(lambda: lease.owner is None, "end of the connection")
        host.mail.emit(Applied(later, 5625))
        await second.start()
        second.send(ClaimSession("s", 2))
        await until(lambda: Applied(later, 5625) in others, "receipt")
        assert not [e for e in others if isinstance(e, Receipt)]
        await second.close()


async def test_what_its_owner_has_closed_is_neither_offered_nor_given_away() -> None:
    """A session that moved elsewhere was claimed here, before it had ended, and lost there."""
    heard, others, late = Heard(), Heard(), Heard()
    async with listening() as (host, port):
        first, second, third = (remote(port, each.hear) for each in (heard, others, late))
        await opened(first, heard)
        await second.start()
        lease = host.mail.leases.get("s")
        assert lease is not None
        lease.closing = True  # as CloseSession leaves it, until the device has ended it
        await first.close()
        await until(lambda: lease.owner is None, "end of the connection")
        await third.start()
        assert third.orphans == ()
        second.send(ClaimSession("s", 7))
        await until(lambda: any(isinstance(e, SessionClosed) for e in others), "refusal")
        assert [e.code for e in others if isinstance(e, SessionClosed)] == ["unknown_session"]
        assert not [e for e in others if isinstance(e, Orphaned)]
        await second.close()
        await third.close()


async def test_a_session_that_is_closed_is_marked_at_once() -> None:
    heard = Heard()
    async with listening() as (host, port):
        worker = remote(port, heard.hear)
        await opened(worker, heard)
        lease = host.mail.leases.get("s")
        assert lease is not None
        assert not lease.closing
        worker.send(CloseSession("s"))
        await until(lambda: any(isinstance(e, SessionClosed) for e in heard), "its end")
        assert lease.closing
        await worker.close()


async def test_a_copy_that_is_claimed_while_it_is_made_is_given_once_it_is_open() -> None:
    """Its gateway died while it restored the session here: who claimed the copy closed it."""
    heard, others = Heard(), Heard()
    async with listening() as (host, port):
        first, second = remote(port, heard.hear), remote(port, others.hear)
        await opened(first, heard)
        first.send(KeepRecord("s", b"the record"))
        lease = host.mail.leases.get("s")
        assert lease is not None
        await until(lambda: lease.record, "record")
        info, lease.info, lease.shown = lease.info, None, None  # as before it is open
        assert info is not None
        await first.close()
        await until(lambda: lease.owner is None, "end of the connection")
        await second.start()
        second.send(ClaimSession("s", 2))
        await until(lambda: lease.awaited, "the claim")
        host.mail.emit(info)
        await until(lambda: any(isinstance(e, Claimed) for e in others), "the answer")
        (claimed,) = [e for e in others if isinstance(e, Claimed)]
        assert (claimed.epoch, claimed.info, claimed.record) == (2, info, b"the record")
        assert not lease.awaited
        await second.close()


async def test_another_gateway_claims_it_and_the_first_one_is_fenced() -> None:
    heard, others = Heard(), Heard()
    async with listening() as (host, port):
        first, second = remote(port, heard.hear), remote(port, others.hear)
        await opened(first, heard)
        first.send(KeepRecord("s", b"the record"))
        await second.start()
        second.send(SetViewers("s", {"vp8": 1}))
        await until(lambda: Fenced("s", 1) in others, "fence")
        second.send(ClaimSession("s", 1))
        await until(lambda: others.count(Fenced("s", 1)) == 2, "refusal of an epoch that is no higher")
        last = heard.packets()[-1]
        second.send(ClaimSession("s", 5))
        await until(lambda: any(isinstance(e, Claimed) for e in others), "claim")
        claimed = next(e for e in others if isinstance(e, Claimed))
        assert (claimed.epoch, claimed.record) == (5, b"the record")
        assert isinstance(claimed.info, SessionInfo)
        assert claimed.segment >= last.segment  # how far it has come: its numbers must not go back
        assert claimed.frame == 8 * claimed.segment
        assert claimed.media_90k >= last.pts_90k
        await until(lambda: Fenced("s", 5) in heard, "word to the first one")
        await until(lambda: any(isinstance(e, Packet) and e.frame > last.frame for e in others), "its video")
        first.send(CloseSession("s"))
        await until(lambda: heard.count(Fenced("s", 5)) == 2, "fence")
        assert host.mail.leases.get("s") is not None
        after = [e for e in heard[heard.index(Fenced("s", 5)) :] if isinstance(e, Packet | SessionClosed)]
        assert not after
        await first.close()
        await second.close()


async def test_who_has_it_already_may_claim_it_again() -> None:
    """It was told that another gateway has it, and ended its session."""
    heard = Heard()
    async with listening() as (_, port):
        worker = remote(port, heard.hear)
        await opened(worker, heard)
        for epoch in (5, 5, 3):
            worker.send(ClaimSession("s", epoch))
        await until(lambda: len([e for e in heard if isinstance(e, Claimed)]) == 3, "answers")
        assert [e.epoch for e in heard if isinstance(e, Claimed)] == [5, 5, 5]
        assert not [e for e in heard if isinstance(e, Fenced)]
        await worker.close()


async def test_a_gateway_hears_when_another_one_restores_its_session_here() -> None:
    """It went on believing that it had it."""
    heard, others = Heard(), Heard()
    async with listening() as (host, port):
        first, second = remote(port, heard.hear), remote(port, others.hear)
        await opened(first, heard)
        await second.start()
        second.send(RestoreSession(OpenSession("s", "a blue dog", 2), (), epoch=7))
        await until(lambda: Fenced("s", 7) in heard, "word of it")
        await until(lambda: any(isinstance(e, SessionInfo) and e.seed == 2 for e in others), "the new one")
        assert not [e for e in others if isinstance(e, SessionInfo) and e.seed == 1]
        assert not [e for e in heard if isinstance(e, SessionClosed)]
        second.send(CloseSession("s"))
        await until(lambda: [e.epoch for e in others if isinstance(e, SessionClosed)] == [7], "its end")
        await until(lambda: host.mail.leases.get("s") is None, "the end of the lease")
        second.send(ClaimSession("s", 9))
        await until(
            lambda: others[-1] == SessionClosed("s", "unknown_session", NO_SESSION, epoch=9), "refusal"
        )
        await first.close()
        await second.close()


async def test_a_session_outlives_its_gateway_and_is_closed_in_the_end() -> None:
    clock, heard = ManualClock(), Heard()
    async with listening(clock=clock) as (host, port):
        first = remote(port, heard.hear)
        await opened(first, heard)
        await first.close()
        await until(lambda: host.mail.leases.get("s").owner is None, "end of the connection")  # type: ignore[union-attr]
        second = remote(port, lambda event: None)
        await second.start()
        assert second.orphans == (Orphaned("s", 1),)
        clock.advance(CLOSE_S + 1)
        await until(lambda: host.mail.leases.get("s") is None, "end of the session")
        await second.close()


async def test_a_restored_session_replaces_an_older_one_in_the_same_worker() -> None:
    heard = Heard()
    async with listening() as (_, port):
        first = remote(port, heard.hear)
        await opened(first, heard)
        heard.clear()
        first.send(RestoreSession(OpenSession("s", "a blue dog", 2), (SetViewers("s", {"vp8": 1}),), epoch=2))
        await until(lambda: any(isinstance(e, SessionInfo) and e.seed == 2 for e in heard), "the new one")
        heard.clear()
        await until(heard.packets, "its video")
        await asyncio.sleep(0)
        assert not [e for e in heard if isinstance(e, SessionClosed)]
        await first.close()
