"""A worker dies or freezes while somebody watches: the video continues."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from itertools import pairwise

import pytest

from server.worker.process import ProcessWorker
from tests.rigs.server.server_rig import Live, config, live, recorded, until, watching
from tests.server.webrtc.watching import connected, shows

PROCESS = config(placement="process")


async def kill_worker(server: Live) -> None:
    worker = server.services.gateway.fleet.first.worker
    assert isinstance(worker, ProcessWorker)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)


async def test_after_a_killed_worker_the_video_continues_on_the_same_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.1)
    async with live(replace(PROCESS, snapshot_every_s=0.1)) as server, watching(server) as viewer:
        gate = server.services.gateway
        session = gate.session("main")
        sent = recorded(session.fanout)
        await connected(viewer)
        viewer.send({"type": "prompt", "id": "p", "text": "a blue lake"})
        await shows(viewer, "blue", 200)
        await until(lambda: len(session.recovery) == 0, "snapshot that shows the prompt")
        shown = viewer.heard("segment")[-1]["segment"]
        await kill_worker(server)
        await until(lambda: session.orphaned, "loss")
        assert (await server.http.get("/readyz")).status_code == 503
        assert (await server.http.get("/livez")).status_code == 200
        viewer.send({"type": "action", "id": "left", "action": "left"})  # no need to wait for it
        count = len(viewer.heard("segment"))
        await until(lambda: len(viewer.heard("segment")) > count, "picture of the next worker", 60.0)
        assert viewer.heard("segment")[count]["segment"] > shown
        assert gate.info("main").prompt == "a blue lake"
        await until(lambda: viewer.heard("receipt", id="left", status="applied"), "effect of the action")
        viewer.send({"type": "prompt", "id": "q", "text": "a green hill"})
        await shows(viewer, "green", 400)
        assert all(a.pts_90k < b.pts_90k for a, b in pairwise(sent))
        assert not viewer.heard("closed")
        assert any(m["buffering"] for m in viewer.heard("session"))
        assert viewer.heard("session")[-1]["buffering"] is None
        assert len(viewer.heard("receipt", id="p", status="applied")) == 1
        assert (await server.http.get("/readyz")).status_code == 200
        assert await server.figure('psistream_worker_restarts_total{worker="w1"}') == 1
        assert await server.figure("psistream_failover_seconds_count") == 1


async def test_a_frozen_worker_is_detected_and_replaced() -> None:
    """The worker cannot report this itself: it sends nothing at all."""
    settings = replace(PROCESS, hang_limit_s=0.5)
    async with live(settings) as server, watching(server) as viewer:
        gate = server.services.gateway
        await viewer.frame()
        worker = gate.fleet.first.worker
        assert isinstance(worker, ProcessWorker)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        await until(lambda: gate.overdue() or gate.fault, "suspicion")
        assert (await server.http.get("/readyz")).status_code == 503
        count = len(viewer.heard("segment"))
        await until(lambda: len(viewer.heard("segment")) > count, "picture of the next worker", 60.0)
        assert (await server.http.get("/readyz")).status_code == 200
