"""How often recovery records get a snapshot, when many sessions share the bandwidth."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from engine.types import Control, Prompt, Receipt, SessionInfo
from server.gateway.exporting.snapshots import WORKER_BYTES_PER_S
from server.gateway.gateway import Gateway
from server.gateway.session import GatewaySession
from server.worker.messages.commands import ExportSession
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.server_rig import READY, FakeWorker, exported, gateway, join, stats, until

MB = 1_000_000


def asked(worker: FakeWorker, session: str) -> int:
    return len([c for c in worker.commands if isinstance(c, ExportSession) and c.session == session])


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.rigs.server.fake_worker.READY", replace(READY, max_sessions=200))


async def opened(
    gate: Gateway, workers: list[FakeWorker], many: int, *, watched: bool
) -> list[GatewaySession]:
    """Sessions with a state of one megabyte."""
    made = []
    for _ in range(many):
        session = await gate.open("a dog")
        session.info = replace(session.info, state_bytes=MB)
        if watched:
            join(session.fanout)
        made.append(session)
    return made


async def played(gate: Gateway, clock: ManualClock, worker: FakeWorker, session: str, for_s: float) -> int:
    """The snapshots that were taken while segments of half a second were shown."""
    before = asked(worker, session)
    for segment in range(round(2 * for_s)):
        clock.advance(0.5)
        worker.tell(stats(10 + segment, session))
        await until(lambda: gate.sessions.find(session).recovery.asked_s is None, "the snapshot")
    return asked(worker, session) - before


@pytest.mark.usefixtures("roomy", "often")
async def test_sessions_that_sleep_take_no_share_of_the_bandwidth() -> None:
    """A hundred sleeping sessions of a megabyte used to stretch the time between two snapshots of the only
    one that plays to ten seconds."""
    clock = ManualClock()
    async with gateway(clock, client_sessions=0, session_idle_s=1e9) as (gate, workers, _):
        sleeping = await opened(gate, workers, 100, watched=False)
        (playing,) = await opened(gate, workers, 1, watched=True)
        clock.advance(20.0)
        await until(lambda: not any(s.recovery.changed for s in sleeping), "a snapshot of each")
        snapshots = gate.parts.snapshots
        await until(lambda: snapshots.fair_s(playing) < 1.01 * MB / WORKER_BYTES_PER_S, "the next round")
        assert await played(gate, clock, workers[0], playing.id, 5.0) == 10
        assert [asked(workers[0], s.id) for s in sleeping] == [1] * 100


@pytest.mark.usefixtures("roomy")
async def test_sessions_that_play_share_the_bandwidth_of_their_worker() -> None:
    clock = ManualClock()
    async with gateway(clock, client_sessions=0, workers=2) as (gate, workers, _):
        made = await opened(gate, workers, 39, watched=True)
        gate.parts.snapshots.share()
        mine = next(s for s in made if s.worker == "w2")
        assert gate.sessions.count("w2") == 20
        assert gate.parts.snapshots.fair_s(mine) == pytest.approx(2.0)
        assert await played(gate, clock, workers[1], mine.id, 8.0) == 4


@pytest.mark.usefixtures("roomy")
async def test_all_workers_together_do_not_fill_the_event_loop() -> None:
    async with gateway(client_sessions=0, workers=9) as (gate, workers, _):
        made = await opened(gate, workers, 90, watched=True)
        gate.parts.snapshots.share()
        assert gate.parts.snapshots.fair_s(made[-1]) == pytest.approx(91 / 50)  # not 10 / 10


@pytest.mark.usefixtures("roomy")
async def test_a_session_that_woke_is_not_forgotten() -> None:
    """Whoever falls asleep right after a change still gets one more snapshot."""
    clock = ManualClock()
    async with gateway(clock, client_sessions=0) as (gate, workers, _):
        (mine,) = await opened(gate, workers, 1, watched=False)
        workers[0].tell(stats(3, mine.id))
        await until(lambda: mine.recovery.asked_s is None, "a snapshot")
        workers[0].tell(stats(4, mine.id))
        workers[0].tell(SessionInfo(mine.id, "a dog", 7, True, None, 5, 40, 0, MB))
        gate.parts.snapshots.share()
        assert mine.recovery.changed
        assert gate.parts.snapshots.fair_s(mine) == pytest.approx(2 * MB / WORKER_BYTES_PER_S)


async def test_a_snapshot_that_comes_just_before_its_worker_is_lost_does_not_repeat_controls() -> None:
    """The session went on from the one before; then the late one, which contained the control, was kept
    beside it."""
    async with gateway(workers=2) as (gate, workers, _):
        await until(lambda: len([worker for worker in gate.fleet if worker.ready]) == 2, "workers")
        mine = await gate.open("a dog")
        here = workers[int(mine.worker[1:]) - 1]
        here.mute = True
        gate.submit(mine.id, Control("c1", Prompt("a blue dog")))
        here.tell(Receipt(mine.id, "c1", "applied", 1, 8))
        here.tell(stats(1, mine.id))
        await until(lambda: asked(here, mine.id), "the request")
        order = next(c for c in here.commands if isinstance(c, ExportSession) and c.session == mine.id)
        here.tell(replace(exported(order), data=b"late", segment=1))
        here.die()
        assert not mine.orphaned  # it was restored at once
        await asyncio.sleep(0)
        opening = mine.recovery.reopening(mine.id)
        assert opening is not None
        assert opening.snapshot != b"late"
        assert [control.id for control in mine.recovery.since()] == ["c1"]
