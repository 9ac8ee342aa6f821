"""Device calls that hang: how they are reported, and what happens to the sessions."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from server.gateway.fleet.worker_health import UNRESPONSIVE_S, Health
from server.worker.base import Alive, Event
from server.worker.messages.events import Hung
from server.worker.process import ProcessWorker
from server.worker.watchdog import Watchdog
from tests.rigs.server.server_rig import config, join, live, until, watching
from tests.rigs.server.settings import change


def test_a_hang_is_reported_when_it_begins_every_second_and_when_it_ends() -> None:
    answers = [None, 1.6, 1.7, 2.5, 2.6, 3.0, None, None, 1.6]
    told: list[Event] = []
    watchdog = Watchdog(lambda: answers.pop(0), told.append)
    while answers:
        watchdog.check()
    assert told == [Hung(1.6), Hung(2.6), Hung(None), Hung(1.6)]


def test_a_hang_right_after_another_is_reported_separately() -> None:
    answers = [5.0, 1.6]
    told: list[Event] = []
    watchdog = Watchdog(lambda: answers.pop(0), told.append)
    while answers:
        watchdog.check()
    assert told == [Hung(5.0), Hung(1.6)]


async def test_heartbeats_are_sent_while_a_device_call_hangs() -> None:
    told: list[Event] = []
    watchdog = Watchdog(lambda: 60.0, told.append)
    watchdog.start()
    await until(lambda: told.count(Alive()) > 1, "signs of life")
    watchdog.close()
    assert Hung(60.0) in told


def test_an_unresponsive_worker_is_faulty_at_once_and_replaced_later() -> None:
    health, now_s = Health(100.0), 100.0
    while health.fault(now_s) is None:
        now_s += 1.0
        health.checked(now_s)
    assert UNRESPONSIVE_S < now_s - 100.0 <= UNRESPONSIVE_S + 1
    assert health.fault(now_s) == "the worker has not responded for 4 s"
    assert health.must_replace(now_s, 30.0, overdue=False) is None
    health.alive()
    assert health.fault(now_s) is None
    for _ in range(31):
        now_s += 1.0
        health.checked(now_s)
    assert health.must_replace(now_s, 30.0, overdue=False) == "the worker did not respond for 30 s"


def test_a_suspended_gateway_does_not_blame_the_worker() -> None:
    """After Ctrl-Z and fg, or with a busy event loop, the worker's messages have not been handled yet."""
    health = Health(100.0)
    health.checked(101.0)
    health.checked(1000.0)
    assert health.fault(1000.0) is None
    assert health.must_replace(1000.0, 30.0, overdue=False) is None


@pytest.mark.slow
async def test_a_frozen_worker_is_detected_even_if_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    async with live(config(placement="process", hang_limit_s=600.0)) as server:
        gate = server.services.gateway
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).json()
        worker = gate.fleet.first.worker
        assert isinstance(worker, ProcessWorker)
        assert worker.pid is not None
        monkeypatch.setattr("server.gateway.fleet.worker_health.UNRESPONSIVE_S", 1.0)
        os.kill(worker.pid, signal.SIGSTOP)
        waits = await server.http.post("/v1/sessions", json={"prompt": "a cat"})  # not detected yet
        assert (waits.status_code, waits.json()["code"]) == (503, "unavailable")
        assert "not responded" in waits.json()["message"]
        ready = await server.http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "not responded" in ready.json()["reasons"][0]
        refused = await server.http.post("/v1/sessions", json={"prompt": "a cat"})
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        main = gate.session("main").fanout
        join(main)
        await until(lambda: gate.info("main").buffering, "word of the picture that stands")
        stands = (await server.http.get("/v1/sessions/main")).json()["buffering"]
        assert 0 < stands["resumes_in_s"] < 600.0 + gate.fleet.first.back_in_s
        assert await server.figure("psistream_sessions_buffering") == 1
        kept = await server.http.get("/v1/sessions/main/log")
        assert (kept.status_code, "not responded" in kept.json()["message"]) == (503, True)
        change(gate.config, hang_limit_s=1.0)
        await until(lambda: gate.session(mine["id"]).orphaned, "replacement", 60.0)
        monkeypatch.undo()  # the next worker may be slow to start
        await until(lambda: gate.fault is None, "the next worker", 60.0)
        assert sorted(gate.session_ids()) == sorted(["main", mine["id"]])
        assert (await server.http.post("/v1/sessions", json={"prompt": "a cat"})).status_code == 201


@pytest.mark.slow
async def test_a_hung_device_is_reported_then_replaced_and_the_video_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gateway.fleet.worker_health.UNRESPONSIVE_S", 600.0)  # only the device hangs
    settings = tmp_path / "fake.json"
    settings.write_text(json.dumps({"hang_after": 24, "hang_s": 600}))
    worker = replace(config().worker, model=str(tmp_path))
    settled = config(worker=worker, placement="process", hang_limit_s=600.0)
    async with live(settled) as server, watching(server) as viewer:
        gate = server.services.gateway
        await viewer.frame()
        settings.write_text("{}")  # what the next one reads
        await until(lambda: gate.fault, "report", 60.0)
        ready = await server.http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "has not returned" in ready.json()["reasons"][0]
        assert (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).status_code == 503
        assert await server.figure('psistream_hangs_total{worker="w1"}') == 1
        change(gate.config, hang_limit_s=1.0)
        await until(lambda: gate.session("main").orphaned, "replacement", 60.0)
        change(gate.config, hang_limit_s=600.0)  # the next worker may be slow
        before = gate.info("main").segment
        await until(lambda: gate.info("main").segment > before + 2, "more of the video", 60.0)
        assert not viewer.heard("closed")
        assert (await server.http.get("/readyz")).json()["reasons"] == []
