"""Admission over HTTP on a device that serves one session in real time: who is admitted and who is
refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from engine.config import RuntimeConfig
from tests.rigs.server.fake_device import FAKE
from tests.rigs.server.server_rig import config, live, until, watching


async def test_one_more_than_the_device_can_serve_is_refused_and_the_others_notice_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "fake.json").write_text(json.dumps({"costs": {"denoise": [0.0, 0.15]}}))
    worker = replace(FAKE, model=str(tmp_path), runtime=RuntimeConfig(max_sessions=3))
    async with live(config(worker=worker)) as server, watching(server) as viewer:
        gate = server.services.gateway
        await viewer.frame()
        for _ in range(3):
            refused = await server.http.post("/v1/sessions", json={"prompt": "a dog"})
            assert (refused.status_code, refused.json()["code"]) == (503, "full")
            assert int(refused.headers["retry-after"]) >= 1
        assert await server.figure('psistream_admission_rejected_total{reason="capacity"}') == 3
        assert gate.session_ids() == ["main"]
        await until(lambda: gate.capacity, "word on the capacity")
        assert await server.figure('psistream_capacity_sessions{worker="w1"}') == 1
        count = len(viewer.heard("segment"))
        await until(lambda: len(viewer.heard("segment")) > count + 1, "more of the video")
        await server.control({"type": "pause"})  # a paused session uses no device time
        await until(lambda: gate.info("main").paused, "pause")
        assert (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).status_code == 201


async def test_admitted_sessions_are_restored_whatever_the_next_worker_measures(tmp_path: Path) -> None:
    """The worker measures its capacity while sessions wait for it; a new session must not take their
    places."""
    settings = tmp_path / "fake.json"
    settings.write_text("{}")
    worker = replace(FAKE, model=str(tmp_path), runtime=RuntimeConfig(max_sessions=8, max_load=2.0))
    async with live(config(worker=worker)) as server, watching(server) as viewer:
        gate = server.services.gateway
        for _ in range(3):
            assert (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).status_code == 201
        before = gate.session_ids()
        settings.write_text(json.dumps({"costs": {"denoise": [0.0, 0.15]}}))  # enough for three
        gate.fleet.first.replace("for the sake of the test")
        await until(lambda: gate.ready and not gate.fleet.first.restarting, "the next worker")
        refused = await server.http.post("/v1/sessions", json={"prompt": "a cat"})
        assert (refused.status_code, refused.json()["code"]) == (503, "full")
        assert gate.session_ids() == before
        assert not [s for s in gate.sessions if s.orphaned]
        count = len(viewer.heard("segment"))
        await until(lambda: len(viewer.heard("segment")) > count, "more of the video")
        assert gate.capacity is not None
        assert gate.capacity.sessions < len(before) == gate.capacity.open
