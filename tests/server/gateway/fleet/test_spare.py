"""A spare worker with its model loaded takes over at once."""

from __future__ import annotations

import os
import signal

import pytest

from engine.errors import ModelFilesError
from server.worker.messages.events import WorkerReady
from server.worker.process import ProcessWorker
from tests.rigs.server.server_rig import FakeWorker, config, gateway, live, stats, until, watching


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.fleet.spare.SETTLE_S", 0.0)
    monkeypatch.setattr("server.gateway.fleet.spare.RETRY_S", 0.05)


async def test_the_spare_takes_over_and_another_one_takes_its_place() -> None:
    async with gateway(spare="on", snapshot_every_s=0.01) as (gate, workers, _):
        mine = await gate.open("a blue dog", 5)
        await until(lambda: len(workers) == 2, "spare")
        workers[0].tell(stats(session=mine.id))
        await until(lambda: mine.recovery.reopening("").snapshot, "snapshot")  # type: ignore[union-attr]
        assert workers[1].commands == []
        workers[0].die()
        await until(lambda: not mine.orphaned, "takeover")
        assert workers[1].commands[0].session == "main"  # type: ignore[union-attr]
        assert gate.fleet.first.worker is workers[1]
        await until(lambda: len(workers) == 3 and workers[0].closed, "the next spare")
        workers[0].tell(stats(session=mine.id))  # an event of the replaced worker
        assert mine.stats is None
        workers[1].tell(stats(session=mine.id))
        assert mine.stats is not None


async def test_a_spare_that_dies_is_replaced_and_disturbs_nobody() -> None:
    async with gateway(spare="on") as (gate, workers, heard):
        await until(lambda: len(workers) == 2, "spare")
        workers[1].die()
        await until(lambda: len(workers) == 3, "another spare")
        assert gate.fleet.first.worker is workers[0]
        assert gate.fault is None
        assert heard == []


async def test_without_memory_or_if_it_cannot_load_there_is_no_spare() -> None:
    async with gateway() as (_, workers, _heard):
        assert len(workers) == 1  # a thread of this process: its size is unknown

    class Second(FakeWorker):
        async def start(self) -> WorkerReady:
            if len(made) > 1:
                raise ModelFilesError("no memory left")
            return await super().start()

    made: list[FakeWorker] = []

    def make(on_event: object) -> FakeWorker:
        return Second(on_event, made)  # type: ignore[arg-type]

    async with live(config(spare="on"), make) as server:
        await until(lambda: len(made) > 1, "attempt")
        assert (await server.http.get("/readyz")).status_code == 200


async def test_the_spare_of_a_real_worker_takes_over() -> None:
    async with live(config(placement="process", spare="on")) as server, watching(server) as viewer:
        gate = server.services.gateway
        await viewer.frame()
        await until(lambda: gate.fleet.first.back_in_s < 1.5, "spare", 60.0)
        first = gate.fleet.first.worker
        assert isinstance(first, ProcessWorker)
        assert first.pid is not None
        before = gate.info("main").segment
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: gate.fleet.first.worker is not first, "takeover")
        await until(lambda: gate.info("main").segment > before + 2, "more of the video", 60.0)
        assert not viewer.heard("closed")
