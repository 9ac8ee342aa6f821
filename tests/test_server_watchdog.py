"""A call of the device that does not come back: who says so, and what becomes of the sessions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from engine.types import Hangs
from server.worker.watchdog import Watchdog
from tests.server_rig import config, live, until, watching


def test_a_hang_is_told_when_it_begins_every_second_and_when_it_is_over() -> None:
    answers = [None, 1.6, 1.7, 2.5, 2.6, 3.0, None, None, 1.6]
    told: list[Hangs] = []
    watchdog = Watchdog(lambda: answers.pop(0), told.append)
    while answers:
        watchdog.look()
    assert told == [Hangs(1.6), Hangs(2.6), Hangs(None), Hangs(1.6)]


def test_another_hang_right_after_is_another_one() -> None:
    answers = [5.0, 1.6]
    told: list[Hangs] = []
    watchdog = Watchdog(lambda: answers.pop(0), told.append)
    while answers:
        watchdog.look()
    assert told == [Hangs(5.0), Hangs(1.6)]


async def test_a_device_that_hangs_is_reported_then_replaced_and_the_video_goes_on(tmp_path: Path) -> None:
    settings = tmp_path / "fake.json"
    settings.write_text(json.dumps({"hang_after": 40, "hang_s": 600}))
    worker = replace(config().worker, model=str(tmp_path))
    settled = config(worker=worker, placement="process", hang_limit_s=2.5)
    async with live(settled) as server, watching(server) as viewer:
        gate = server.services.gateway
        await viewer.frame()
        settings.write_text("{}")  # what the next one reads
        await until(lambda: gate.fault, "report", 60.0)
        ready = await server.http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "has not come back" in ready.json()["reasons"][0]
        assert (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).status_code == 503
        assert await server.figure("psistream_hangs_total") == 1
        await until(lambda: gate.session("main").away, "replacement", 60.0)
        before = gate.info("main").segment
        await until(lambda: gate.info("main").segment > before + 2, "more of the video", 60.0)
        assert not viewer.heard("closed")
        assert (await server.http.get("/readyz")).json()["reasons"] == []
