"""Which workers are replaced, and what happens to their sessions."""

from __future__ import annotations

import pytest

from engine.types import (
    Control,
    OpenSession,
    Pause,
    SessionClosed,
)
from server.worker.messages.commands import ExportSession, SetViewers, SubmitControl
from server.worker.messages.events import Exported, Hung
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import (
    FakeWorker,
    gateway,
    join,
    live,
    opened,
    packet,
    stats,
    until,
)
from tests.server.gateway.replacement import replaced, told

PAUSE = Control("c1", Pause())


async def test_a_session_that_the_next_worker_refuses_ends_with_the_reason() -> None:
    async with gateway() as (gate, workers, heard):
        mine = await gate.open("mine")
        wrong = SessionClosed(mine.id, "invalid", "snapshot: it is of another model")
        workers[0].successor = lambda c: wrong if c.session == mine.id else opened(c)
        workers[0].die()
        await until(lambda: wrong in heard, "end")
        assert "main" in gate.session_ids()


@pytest.mark.usefixtures("often")
async def test_sessions_wait_for_a_worker_whose_queue_is_full() -> None:
    """Hundreds of sessions are restored at once, with all their controls."""
    async with gateway() as (gate, workers, _):
        mine = await gate.open("mine")
        gate.submit(mine.id, PAUSE)
        workers[0].deaf = True
        workers[0].die()
        second = await replaced(gate, workers)
        assert told(second) == []
        second.deaf = False
        await until(lambda: not mine.orphaned, "another try")
        assert told(second, mine.id) == [
            OpenSession(mine.id, "mine", mine.info.seed),
            SetViewers(mine.id, {}),
            SubmitControl(mine.id, PAUSE),
        ]


async def test_a_worker_without_capacity_for_main_has_not_failed() -> None:
    async with gateway() as (gate, workers, _):
        mine = await gate.open("mine")
        workers[0].tell(SessionClosed("main", "backend", "it failed"))
        workers[0].successor = lambda c: (
            SessionClosed("main", "full", "no room") if c.session == "main" else opened(c)
        )
        workers[0].die()
        await replaced(gate, workers)
        await until(lambda: not gate.fleet.first.restarting, "end of the restart")
        assert gate.session_ids() == [mine.id]
        assert gate.fault is None
        assert len(workers) == 2


async def test_a_hung_device_is_reported_at_once_and_forgiven_when_it_returns() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].tell(Hung(1.2))
        workers[0].tell(Hung(2.2))
        ready = await server.http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "has not returned" in ready.json()["reasons"][0]
        assert await server.figure('psistream_hangs_total{worker="w1"}') == 1
        refused = await server.http.post("/v1/sessions", json={"prompt": "a dog"})
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        workers[0].tell(Hung(None))
        assert (await server.http.get("/readyz")).status_code == 200


@pytest.mark.usefixtures("often")
async def test_a_device_that_hangs_for_good_is_replaced() -> None:
    clock = ManualClock()
    async with gateway(clock, hang_limit_s=30.0) as (gate, workers, _):
        workers[0].tell(Hung(1.0))
        clock.advance(30.0)
        second = await replaced(gate, workers)
        assert workers[0].closed
        assert told(second)[0] == OpenSession("main", "a red cat", 7)
        assert gate.fault is None


@pytest.mark.usefixtures("often")
async def test_a_worker_that_does_nothing_while_somebody_watches_is_replaced() -> None:
    clock = ManualClock()
    async with gateway(clock, hang_limit_s=30.0) as (gate, workers, _):
        clock.advance(1000.0)  # without viewers, missing news proves nothing while heartbeats arrive
        join(gate.session("main").fanout)
        clock.advance(29.0)
        workers[0].tell(packet(1))
        assert gate.overdue() == ["main"]
        clock.advance(29.0)
        assert len(workers) == 1
        clock.advance(2.0)
        await replaced(gate, workers)


@pytest.mark.usefixtures("often")
async def test_a_worker_that_cannot_make_a_snapshot_is_asked_again_later() -> None:
    async with gateway(snapshot_every_s=0.001) as (gate, workers, _):
        workers[0].export_answer = lambda c: Exported(c.session, c.request, None, "backend", "no")
        workers[0].tell(stats())
        asked = [c for c in workers[0].commands if isinstance(c, ExportSession)]
        await until(lambda: not gate.session("main").recovery.changed, "question")
        workers[0].tell(stats(segment=2))
        await until(
            lambda: sum(isinstance(c, ExportSession) for c in workers[0].commands) >= len(asked) + 2,
            "another question",
        )
