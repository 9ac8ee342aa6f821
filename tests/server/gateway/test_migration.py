"""Migration: no frame is shown twice, lost, or different."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from engine.config import RuntimeConfig
from engine.errors import Unavailable
from engine.types import Control, OpenSession, Prompt, Receipt, SegmentReady, SessionClosed
from server.config import WorkerConfig
from server.gateway.fleet.fleet import LastWorker, UnknownWorker
from server.gateway.fleet.makers import worker_makers
from server.gateway.gateway import Gateway
from server.metrics import Metrics
from server.worker.base import Numbers, Order
from server.worker.messages.commands import CloseSession, ExportSession
from server.worker.messages.events import Exported
from server.worker.playout import Playout
from tests.rigs.server.server_rig import (
    FakeWorker,
    applied,
    config,
    gateway,
    join,
    live,
    opened,
    packet,
    recorded,
    stats,
    until,
)
from tests.server.gateway.replacement import told


@pytest.mark.parametrize(
    "backend", ["fake", pytest.param("onnxruntime", marks=pytest.mark.slow)], ids=["fake", "the real model"]
)
async def test_a_session_that_moves_shows_what_it_would_have_shown(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The video equals, bit for bit, that of a session with the same seed that stays; numbers and times
    continue without a gap."""
    made: dict[tuple[str, str], dict[int, SegmentReady]] = defaultdict(dict)
    add, names = Playout.add, dict[int, str]()

    def spy(self: Playout, segment: SegmentReady) -> None:
        made[names.setdefault(id(self), f"worker {len(names)}"), segment.session][segment.segment] = segment
        add(self, segment)

    monkeypatch.setattr(Playout, "add", spy)
    runtime = RuntimeConfig(max_sessions=3, max_load=100.0)
    settings = config(workers=2, worker=WorkerConfig(backend=backend, runtime=runtime))
    async with Gateway(settings, worker_makers(settings), Metrics()) as gate:
        moves, stays = await gate.open("a dog", 5), await gate.open("a dog", 5)
        assert (moves.worker, stays.worker) == ("w2", "w1")
        sent = recorded(moves.fanout)
        for session in (moves, stays):
            join(session.fanout)
        await until(lambda: moves.stats and moves.stats.segment >= 2, "some of the video", 60.0)
        gate.drain("w2")
        await until(lambda: moves.worker == "w1", "move", 60.0)
        await until(lambda: len(of(made, moves.id)) == 2, "its first segment there", 60.0)
        first = min(of(made, moves.id)[1])
        await until(lambda: sent[-1].segment >= first + 3, "the video after it", 60.0)
        await until(lambda: stays.stats and stays.stats.segment >= first + 3, "the other one", 60.0)
        await until(lambda: gate.fleet.status(gate.fleet.named("w2")).state == "drained", "end of the drain")

    (before, after), (other,) = (of(made, which.id) for which in (moves, stays))
    for number in range(first + 3):
        mine = before[number] if number < first else after[number]
        assert np.array_equal(mine.frames, other[number].frames), number
    assert all(p.frame // 8 == p.segment for p in sent), "frames go on where they were"
    assert all(a.pts_90k < b.pts_90k and a.frame <= b.frame for a, b in pairwise(sent))


def of(made: dict[tuple[str, str], dict[int, SegmentReady]], name: str) -> list[dict[int, SegmentReady]]:
    """The segments of a session, by worker."""
    return [shown for (_, session), shown in made.items() if session == name]


def answering(segment: int, left_s: float = 0.0) -> Any:
    return lambda c: Exported(
        c.session, c.request, b"moved", segment=segment, remaining_s=left_s, end_90k=225_000
    )


async def begins(worker: FakeWorker, session: str, segment: int) -> None:
    """A segment starts to play, and the snapshot that this triggers has been taken."""
    before = sum(isinstance(c, ExportSession) for c in worker.commands)
    worker.tell(stats(segment, session))
    await until(lambda: sum(isinstance(c, ExportSession) for c in worker.commands) > before, "question")


async def test_the_old_worker_plays_its_segment_to_the_end_and_nothing_after_it() -> None:
    async with gateway(workers=2, snapshot_every_s=0.0) as (gate, workers, heard):
        main, (old, new) = gate.session("main"), workers
        join(main.fanout)
        sent = recorded(main.fanout)
        old.export_answer = answering(segment=4)
        gate.drain("w1")
        await asyncio.sleep(0)
        old.tell(packet(32))
        await begins(old, "main", 4)
        await until(lambda: main.worker == "w2", "move")
        old.tell(packet(39))
        old.tell(packet(40))  # belongs to a segment of the new worker
        assert told(new)[0] == OpenSession("main", None, None, snapshot=b"moved")
        new.tell(opened(OpenSession("main", None, None)))
        assert new.restored[0].numbers == Numbers(1, 5, 40, 225_000)
        new.tell(packet(40, keyframe=True))
        old.tell(packet(39))
        assert [(p.segment, p.frame) for p in sent] == [(4, 32), (4, 39), (5, 40)]
        assert all(a.pts_90k < b.pts_90k for a, b in pairwise(sent))
        await until(lambda: CloseSession("main") in old.commands, "end in the old worker")
        assert not [event for event in heard if isinstance(event, SessionClosed)]
        moved = gate.metrics.registry.get_sample_value
        assert moved("psistream_sessions_moved_total", {"reason": "drain"}) == 1


async def test_controls_that_arrive_during_a_move_are_applied_once() -> None:
    async with gateway(workers=2, snapshot_every_s=0.0) as (gate, workers, heard):
        main, (old, new) = gate.session("main"), workers
        join(main.fanout)
        shown, queued, waits, late = (Control(name, Prompt(name)) for name in ("a", "b", "c", "d"))
        for control in (shown, queued, waits):
            gate.submit("main", control)
        old.tell(applied("main", "a", segment=4))
        old.tell(applied("main", "b", segment=5, frame=40))  # already made, but not on the screen
        old.export_answer = answering(segment=4)
        gate.drain("w1")
        await asyncio.sleep(0)
        await begins(old, "main", 4)
        await until(lambda: main.worker == "w2", "move")
        gate.submit("main", late)
        assert new.submitted() == [queued, waits, late]
        heard.clear()
        old.tell(applied("main", "c", segment=5))
        for control in new.submitted():
            new.tell(applied("main", control.id, segment=5, frame=40))
        receipts = [event for event in heard if isinstance(event, Receipt)]
        assert [(r.id, r.status, r.segment) for r in receipts] == [
            ("d", "received", None) if r.status == "received" else (r.id, "applied", 5) for r in receipts
        ]
        assert [r.id for r in receipts if r.status == "applied"] == ["c", "d"]


async def test_the_new_worker_dies_before_its_first_picture() -> None:
    async with gateway(workers=3, snapshot_every_s=0.0) as (gate, workers, heard):
        main, old = gate.session("main"), workers[0]
        join(main.fanout)
        old.export_answer = answering(segment=4)
        gate.drain("w1")
        await asyncio.sleep(0)
        await begins(old, "main", 4)
        await until(lambda: main.worker != "w1", "move")
        assert main.worker == "w2"
        workers[1].die()
        assert main.worker == "w3"
        assert told(workers[2])[0] == OpenSession("main", None, None, snapshot=b"moved")
        await until(lambda: CloseSession("main") in old.commands, "end in the old worker")
        assert not [event for event in heard if isinstance(event, SessionClosed)]


async def test_a_session_that_has_shown_nothing_moves_as_it_was_opened() -> None:
    async with gateway(workers=2) as (gate, workers, _):
        workers[0].export_answer = lambda c: Exported(
            c.session, c.request, None, "unavailable", "nothing yet"
        )
        gate.drain("w1")
        await until(lambda: gate.session("main").worker == "w2", "move")
        assert told(workers[1])[0] == OpenSession("main", "a red cat", 7)


async def test_a_target_that_is_busy_leaves_the_session_where_it_is() -> None:
    async with gateway(workers=2) as (gate, workers, _):
        send, refused = workers[1].send, list[Order]()

        def full(command: Order) -> None:
            refused.append(command)
            raise Unavailable("the worker is overloaded")

        workers[1].send = full  # type: ignore[method-assign]
        gate.drain("w1")
        await until(lambda: refused, "try")
        assert gate.session("main").worker == "w1"
        workers[1].send = send  # type: ignore[method-assign]
        await until(lambda: gate.session("main").worker == "w2", "another try")


async def test_a_drained_worker_accepts_no_sessions_until_it_is_taken_back() -> None:
    async with gateway(workers=2) as (gate, _, _):
        gate.drain("w2")
        assert [(await gate.open("a dog")).worker for _ in range(2)] == ["w1", "w1"]
        with pytest.raises(LastWorker):
            gate.drain("w1")
        with pytest.raises(UnknownWorker, match="the workers are w1, w2"):
            gate.drain("w9")
        gate.take_back("w2")
        assert (await gate.open("a dog")).worker == "w2"
        for worker in gate.fleet:
            worker._fault = "it is silent"
        with pytest.raises(LastWorker, match="no worker accepts sessions now"):
            gate.drain("w1")


async def test_a_drain_that_is_ended_and_begun_again_moves_no_more_sessions_at_once() -> None:
    """Each one moved two at a time beside the one before."""
    async with gateway(workers=2) as (gate, _, _):
        for _ in range(3):
            gate.drain("w2")
            gate.take_back("w2")
        gate.drain("w2")
        assert [task.get_name() for task in asyncio.all_tasks()].count("drain-w2") == 1


async def test_operators_drain_over_http() -> None:
    async with live(config(workers=2, api_key="0123456789abcdeffedcba9876543210")) as server:
        key = {"Authorization": "Bearer 0123456789abcdeffedcba9876543210"}
        assert (await server.http.get("/v1/workers")).status_code == 401
        assert (await server.http.post("/v1/workers/w1/drain")).status_code == 401
        answer = await server.http.post("/v1/workers/w1/drain", headers=key)
        assert (answer.status_code, answer.json()["id"]) == (202, "w1")
        again = await server.http.post("/v1/workers/w2/drain", headers=key)
        assert (again.status_code, again.json()["code"]) == (409, "last_worker")
        unknown = await server.http.post("/v1/workers/nobody/drain", headers=key)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_worker")
        await until(lambda: server.services.gateway.session("main").worker == "w2", "move", 30.0)
        listed = (await server.http.get("/v1/workers", headers=key)).json()["workers"]
        assert [(w["id"], w["sessions"]) for w in listed] == [("w1", 0), ("w2", 1)]
        assert (await server.http.get("/readyz")).json()["workers"] == {"w1": "drained", "w2": "running"}
        taken = await server.http.delete("/v1/workers/w1/drain", headers=key)
        assert (taken.status_code, taken.json()["state"]) == (200, "running")
