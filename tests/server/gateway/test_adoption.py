"""Gateways come and go, their sessions stay: taken over, resumed, or given to whoever claimed them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine.types import Control, OpenSession, Pause, Prompt, Receipt, SessionClosed
from server.gateway.adoption import read_record, record_of
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.worker.messages import ClaimSession, CloseSession, Fenced, Hung, Orphaned
from server.worker.remote import RemoteWorker
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.port_rig import listening, remote
from tests.rigs.server.server_rig import config, gateway, join, recorded, stats, until
from tests.server.gateway.replacement import told


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.01)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Gateway]:
    """A gateway of a worker that listens."""
    settings = config(placement="remote", host="192.0.2.1", api_key="0123456789abcdeffedcba9876543210")
    async with Gateway(settings, [lambda on_event: remote(port, on_event)], Metrics()) as gate:
        yield gate


def vanish(gate: Gateway) -> None:
    """As if its process had been killed: it neither says anything nor hears of it."""
    worker = gate.fleet.first.worker
    assert isinstance(worker, RemoteWorker)
    worker._link._closing = True
    assert worker._link._connection is not None
    worker._link._connection.abort()


async def test_the_next_gateway_goes_on_with_the_sessions_of_one_that_was_killed() -> None:
    """Ids, tokens, receipts, frame numbers and media time go on; nothing is opened again."""
    async with listening() as (host, port), connected(port) as first:
        mine = await first.open("a dog", 5)
        sent = recorded(mine.fanout)
        join(mine.fanout)
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
            assert (taken.token, taken.view_token) == (mine.token, mine.view_token)
            assert second.sessions.by_token(mine.token or "") is taken
            assert second.session("main").token == first.session("main").token
            assert second.submit(mine.id, Control("c1", Prompt("a blue dog"))).status == "applied"
            again = recorded(taken.fanout)
            join(taken.fanout)
            await until(lambda: again, "video", 30.0)
            assert again[0].keyframe
            assert again[0].frame >= sent[-1].frame
            assert again[0].pts_90k > sent[-1].pts_90k
            assert (lease.epoch, taken.lease_epoch) == (2, 2)
            await until(lambda: getattr(taken.recovery.reopening(""), "snapshot", None), "its own snapshot")


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
        workers[0].orphans = {"main": 1}
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
        assert told(workers[2]) == [ClaimSession("main", 2), CloseSession("main")]
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


async def test_a_record_is_bounded_and_read_with_care() -> None:
    async with gateway(host="192.0.2.1", api_key="0123456789abcdeffedcba9876543210") as (gate, _, _):
        main = gate.session("main")
        for n in range(500):
            main.remember(Receipt("main", f"c{n}", "rejected", code="x", message="y" * 5000))
        record = record_of(main)
        assert len(record) < 1 << 16
        known = read_record(record)
        assert (known["token"], known["view_token"]) == (main.token, main.view_token)
        assert [r.id for r in known["receipts"]] == [f"c{n}" for n in range(436, 500)]
    odd = {
        "token": 5,
        "view_token": "",
        "client": ["x"],
        "receipts": [[1], "x", ["a", "no", 1, 2, 3, 4], None],
    }
    for bad in (b"", b"\xff", b"[]", b"[" * 100_000, json.dumps(odd).encode()):
        assert read_record(bad).get("token") is None
        assert not read_record(bad).get("receipts")
