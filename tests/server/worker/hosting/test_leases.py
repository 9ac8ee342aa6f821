"""Whose a session is: silence, claims and fences, by a clock that the test sets."""

from __future__ import annotations

import asyncio

from engine.types import OpenSession, SessionClosed, SessionInfo
from server.worker.base import RestoreSession
from server.worker.hosting.leases import CLOSE_S, SILENT_S, STOP_S, Leases, LeaseStage
from server.worker.messages import (
    Claimed,
    ClaimSession,
    CloseSession,
    Fenced,
    KeepRecord,
    Orphaned,
    Packet,
    SetViewers,
)
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
        await until(lambda: Fenced("s", 5) in heard, "word to the first one")
        await until(lambda: any(isinstance(e, Packet) and e.frame > last.frame for e in others), "its video")
        first.send(CloseSession("s"))
        await until(lambda: heard.count(Fenced("s", 5)) == 2, "fence")
        assert host.mail.leases.get("s") is not None
        after = [e for e in heard[heard.index(Fenced("s", 5)) :] if isinstance(e, Packet | SessionClosed)]
        assert not after
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
        assert second.orphans == {"s": 1}
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
