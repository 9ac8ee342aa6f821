"""Sessions outlive their worker: what goes on, what is done again, what is told, and what is given up."""

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
from server.gateway.gateway import Gateway
from server.worker.base import Applied
from server.worker.messages import Command, Exported, ExportSession, Hung, SetViewers, SubmitControl
from tests.rigs.fakes import ManualClock
from tests.rigs.server_rig import FakeWorker, applied, gateway, live, opened, packet, recorded, stats, until


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.005)


PAUSE = Control("c1", Pause())


def told(worker: FakeWorker, session: str = "main") -> list[Command]:
    """What a worker was told about a session, snapshots aside."""
    return [
        c
        for c in worker.commands
        if getattr(c, "session", None) == session and not isinstance(c, ExportSession)
    ]


async def replaced(gate: Gateway, workers: list[FakeWorker], number: int = 2) -> FakeWorker:
    await until(lambda: len(workers) == number and gate.ready, "replacement")
    return workers[-1]


# ---- a worker dies ----


@pytest.mark.usefixtures("often")
async def test_a_session_goes_on_from_its_latest_snapshot() -> None:
    async with gateway() as (gate, workers, heard):
        mine = await gate.open("a blue dog", 5)
        workers[0].tell(stats(session=mine.id))
        await until(lambda: mine.recovery.reopening("") != OpenSession("", "a blue dog", 5), "snapshot")
        workers[0].die()
        assert mine.away
        second = await replaced(gate, workers)
        expected = OpenSession(mine.id, None, None, snapshot=f"snapshot of {mine.id}".encode())
        assert told(second, mine.id)[:2] == [expected, SetViewers(mine.id, {})]
        assert gate.session(mine.id) is mine
        assert mine.token
        assert not [e for e in heard if isinstance(e, SessionClosed)]
        assert workers[0].closed
        assert gate.metrics.registry.get_sample_value("psistream_sessions_resumed_total") == 2
        assert gate.metrics.registry.get_sample_value("psistream_worker_restarts_total") == 1


async def test_without_a_snapshot_it_begins_as_it_began() -> None:
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
        await asyncio.wait_for(closing, 2)
        await until(lambda: len(workers) == 2 and workers[1].commands, "next worker")
        assert [c.session for c in workers[1].commands if isinstance(c, OpenSession)] == ["main"]


async def test_what_was_received_is_applied_once_in_the_next_worker() -> None:
    """Nobody has to send a prompt again because a process died, and no receipt comes twice."""
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
async def test_what_a_snapshot_shows_is_not_done_again() -> None:
    async with gateway(snapshot_every_s=0.001) as (gate, workers, _):
        gate.submit("main", Control("shown", Prompt("a blue dog", "cut")))
        workers[0].tell(applied("main", "shown", segment=3))
        workers[0].tell(stats(segment=3))
        await until(lambda: not len(gate.session("main").recovery), "snapshot")
        workers[0].die()
        second = await replaced(gate, workers)
        assert second.submitted() == []


async def test_held_keys_and_pauses_are_restored_without_anybody_hearing_of_it() -> None:
    async with gateway() as (gate, workers, heard):
        workers[0].tell(replace(gate.session("main").info, paused=True, action="left"))
        workers[0].die()
        second = await replaced(gate, workers)
        assert [c.body for c in second.submitted()] == [Action("left"), Pause()]
        heard.clear()
        for control in second.submitted():
            second.tell(applied("main", control.id))
        assert heard == []


async def test_viewers_are_told_for_how_long_the_picture_stands() -> None:
    clock = ManualClock()
    async with gateway(clock) as (gate, workers, heard):
        gate.session("main").fanout._join("vp8", gate.session("main").fanout.track("vp8"))
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


async def test_media_time_goes_on_where_the_wall_clock_is_and_frames_where_they_were() -> None:
    """A browser takes timestamps that go back for hours of waiting."""
    clock = ManualClock()
    async with gateway(clock) as (gate, workers, heard):
        sent = recorded(gate.session("main").fanout)
        workers[0].tell(stats(segment=10))
        workers[0].tell(packet(80))
        workers[0].die()
        second = await replaced(gate, workers)
        clock.advance(3.0)
        second.tell(opened(OpenSession("main", None, None)))  # its own numbers begin at zero
        second.tell(packet(0))
        second.tell(packet(1))
        assert [(p.frame, p.segment, p.epoch, p.pts_90k) for p in sent] == [
            (80, 10, 0, 450_000),
            (88, 11, 1, 720_000),
            (89, 11, 1, 725_625),
        ]
        gate.submit("main", PAUSE)
        second.tell(Applied(applied("main", "c1", segment=2, frame=16), 90_000))
        assert heard[-1] == applied("main", "c1", segment=13, frame=104)
        assert gate.session("main").pts_of(104) == 810_000


async def test_what_an_old_worker_still_says_is_not_heard() -> None:
    async with gateway() as (gate, workers, heard):
        workers[0].die()
        await replaced(gate, workers)
        heard.clear()
        workers[0].tell(SessionClosed("main", "closed", ""))
        workers[0].die()
        assert heard == []
        assert gate.ready is not None


async def test_a_session_that_keeps_killing_workers_does_not_go_on_for_ever() -> None:
    async with gateway() as (gate, workers, heard):
        mine = await gate.open("poison")
        for number in (2, 3, 4):
            workers[-1].die()
            await replaced(gate, workers, number)
        await until(lambda: mine.closed.is_set(), "end of the culprit")
        assert SessionClosed(mine.id, "worker_lost", "") in [
            replace(e, message="") for e in heard if isinstance(e, SessionClosed)
        ]
        await until(lambda: gate.session_ids() == ["main"], "a fresh shared session")


async def test_who_slept_is_no_suspect_however_often_workers_die() -> None:
    clock = ManualClock()
    async with gateway(clock) as (gate, workers, heard):
        asleep, paused, watched = gate.session("main"), await gate.open("b"), await gate.open("c")
        for session in (paused, watched):
            session.fanout._join("vp8", session.fanout.track("vp8"))
        workers[0].tell(replace(paused.info, paused=True))
        clock.advance(10.0)  # the worker's grace for who is not watched
        for number in (2, 3, 4):
            assert gate.session_ids() == ["main", paused.id, watched.id]
            workers[-1].die()
            await replaced(gate, workers, number)
            clock.advance(1.0)
        await until(watched.closed.is_set, "end of the one that was generated each time")
        assert gate.session_ids() == ["main", paused.id]
        assert gate.session("main") is asleep
        assert [e.session for e in heard if isinstance(e, SessionClosed)] == [watched.id]


async def test_a_session_that_the_next_worker_refuses_ends_with_why() -> None:
    async with gateway() as (gate, workers, heard):
        mine = await gate.open("mine")
        wrong = SessionClosed(mine.id, "invalid", "snapshot: it is of another model")
        workers[0].successor = lambda c: wrong if c.session == mine.id else opened(c)
        workers[0].die()
        await until(lambda: wrong in heard, "end")
        assert "main" in gate.session_ids()


@pytest.mark.usefixtures("often")
async def test_what_a_worker_has_no_ear_for_at_first_waits_whole() -> None:
    """Hundreds of sessions come at once, with all that they were told since."""
    async with gateway() as (gate, workers, _):
        mine = await gate.open("mine")
        gate.submit(mine.id, PAUSE)
        workers[0].deaf = True
        workers[0].die()
        second = await replaced(gate, workers)
        assert told(second) == []
        second.deaf = False
        await until(lambda: not mine.away, "another try")
        assert told(second, mine.id) == [
            OpenSession(mine.id, "mine", mine.info.seed),
            SetViewers(mine.id, {}),
            SubmitControl(mine.id, PAUSE),
        ]


async def test_a_worker_without_room_for_main_is_no_worker_that_failed() -> None:
    async with gateway() as (gate, workers, _):
        mine = await gate.open("mine")
        workers[0].tell(SessionClosed("main", "backend", "it failed"))
        workers[0].successor = lambda c: (
            SessionClosed("main", "full", "no room") if c.session == "main" else opened(c)
        )
        workers[0].die()
        await replaced(gate, workers)
        await until(lambda: not gate.supervisor.restarting, "end of the restart")
        assert gate.session_ids() == [mine.id]
        assert gate.fault is None
        assert len(workers) == 2


# ---- a worker hangs ----


async def test_a_device_that_hangs_is_told_at_once_and_forgiven_when_it_comes_back() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].tell(Hung(1.2))
        workers[0].tell(Hung(2.2))
        ready = await server.http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "has not returned" in ready.json()["reasons"][0]
        assert await server.figure("psistream_hangs_total") == 1
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
        clock.advance(1000.0)  # nobody watches: no news is no sign of anything, as long as it lives
        gate.session("main").fanout._join("vp8", gate.session("main").fanout.track("vp8"))
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
