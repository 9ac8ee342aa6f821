"""Gateways come and go, their sessions stay: taken over, resumed, or given to whoever claimed them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.types import Control, OpenSession, Pause, Prompt, SessionClosed
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.worker.base import MakeWorker
from server.worker.epochs import copied
from server.worker.messages.events import Hung
from server.worker.messages.holding import ClaimSession, EndCopy, Fenced, Orphaned
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.port_rig import listening, remote, vanish
from tests.rigs.server.server_rig import config, gateway, join, recorded, stats, until
from tests.server.gateway.replacement import told


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.01)


@asynccontextmanager
async def connected(*ports: int) -> AsyncIterator[Gateway]:
    """A gateway of workers that listen."""
    settings = config(placement="remote", host="192.0.2.1", api_key="0123456789abcdeffedcba9876543210")
    makers: list[MakeWorker] = [lambda on_event, port=port: remote(port, on_event) for port in ports]  # type: ignore[misc]
    async with Gateway(settings, makers, Metrics()) as gate:
        yield gate


async def test_the_next_gateway_goes_on_with_the_sessions_of_one_that_was_killed() -> None:
    """Ids, tokens, receipts, frame numbers and media time go on; nothing is opened again."""
    async with listening() as (host, port), connected(port) as first:
        mine = await first.open("a dog", 5)
        sent = recorded(mine.fanout)
        join(mine.fanout)
        _, link = mine.links.make("driver", 60.0, time.monotonic())
        first.submit(mine.id, Control("c1", Prompt("a blue dog")))
        await until(lambda: mine.answers["c1"].status == "applied", "receipt")
        lease = host.mail.leases.get(mine.id)
        assert lease is not None
        await until(lambda: b"applied" in lease.record, "record of it")
        await until(lambda: len(sent) > 20, "video")
        vanish(first)
        await until(lambda: lease.owner is None, "end of the connection")
        async with connected(port) as second:
            assert sorted(second.session_ids()) == sorted(["main", mine.id])
            taken = second.session(mine.id)
            assert (taken.token, taken.view_token) == (None, None)
            for token, role in ((mine.token, "owner"), (mine.view_token, "viewer"), (link, "driver")):
                assert taken.accepts(token or "", time.monotonic()) == role
                assert second.sessions.by_token(token or "") is taken
            assert taken.accepts("", time.monotonic()) is None
            assert second.session("main").token_hash == first.session("main").token_hash
            for token in (mine.token, mine.view_token, link):
                assert (token or "").encode() not in lease.record
            assert second.submit(mine.id, Control("c1", Prompt("a blue dog"))).status == "applied"
            again = recorded(taken.fanout)
            join(taken.fanout)
            await until(lambda: again, "video", 30.0)
            assert again[0].keyframe
            assert again[0].frame >= sent[-1].frame
            assert again[0].pts_90k > sent[-1].pts_90k
            assert (lease.epoch, taken.lease_epoch) == (2, 2)
            await until(lambda: getattr(taken.recovery.reopening(""), "snapshot", None), "its own snapshot")


async def test_the_next_gateway_opens_no_second_main_before_it_has_heard_of_the_first() -> None:
    """The worker that it asks first is not the one that runs it."""
    async with listening() as (one, port), listening() as (other, far), connected(port, far) as first:
        main = first.session("main")
        holder, ports = (one, (far, port)) if main.worker == "w1" else (other, (port, far))
        lease = holder.mail.leases.get("main")
        assert lease is not None
        await until(lambda: lease.record, "record of it")
        vanish(first)
        await until(lambda: lease.owner is None, "end of the connection")
        async with connected(*ports) as second:
            taken = second.session("main")
            assert (taken.worker, taken.token_hashes, lease.epoch) == ("w2", main.token_hashes, 2)
            assert [host.mail.leases.get("main") for host in (one, other) if host is not holder] == [None]


async def test_a_gateway_whose_session_was_claimed_says_so_and_shows_nothing() -> None:
    async with gateway() as (gate, workers, heard):
        mine = await gate.open("a dog")
        sent = recorded(mine.fanout)
        workers[0].tell(Fenced(mine.id, 0))  # an old answer
        assert not mine.closed.is_set()
        workers[0].tell(Fenced(mine.id, 2))
        assert mine.closed.is_set()
        ends = [e for e in heard if isinstance(e, SessionClosed)]
        assert [(e.session, e.code) for e in ends] == [(mine.id, "fenced")]
        assert not sent


async def test_a_session_whose_worker_was_only_out_of_reach_is_resumed() -> None:
    """It has been running all the time, so it is claimed and not opened from a snapshot."""
    async with gateway() as (gate, workers, heard):
        workers[0].tell(stats(segment=10))
        gate.submit("main", Control("waits", Pause()))
        main = gate.session("main")
        workers[0].orphans = (Orphaned("main", 1),)
        workers[0].die()
        await until(lambda: len(workers) == 2, "another try")
        await until(lambda: not main.orphaned, "resumption")
        assert [type(c).__name__ for c in told(workers[1])] == ["ClaimSession", "SetViewers", "SubmitControl"]
        assert told(workers[1])[0] == ClaimSession("main", 2)
        workers[1].tell(SessionClosed("main", "unknown_session", "it has ended meanwhile"))
        assert isinstance(told(workers[1])[3], OpenSession)
        assert not [e for e in heard if isinstance(e, SessionClosed)]


async def test_what_moved_elsewhere_is_ended_where_it_was() -> None:
    async with gateway(workers=2) as (gate, workers, _):
        workers[0].die()
        assert gate.session("main").worker == "w2"
        await until(lambda: len(workers) == 3 and gate.fleet.first.ready, "successor")
        workers[2].tell(Orphaned("main", 1))
        assert told(workers[2]) == [EndCopy("main", copied(1))]
        assert gate.session("main").worker == "w2"


@pytest.mark.parametrize("fault", ["silent", "hung"])
async def test_a_worker_of_no_use_is_left_after_six_seconds_if_another_has_room(fault: str) -> None:
    clock = ManualClock()
    async with gateway(clock, workers=2) as (gate, workers, _):
        main = gate.session("main")
        join(main.fanout)
        workers[0].mute = True
        if fault == "hung":
            workers[0].tell(Hung(0.0))
        for _ in range(5):
            clock.advance(1.0)
            await asyncio.sleep(0.05)
        assert main.worker == "w1"
        for _ in range(3):
            clock.advance(1.0)
            await asyncio.sleep(0.05)
        await until(lambda: main.worker == "w2", "failover")
