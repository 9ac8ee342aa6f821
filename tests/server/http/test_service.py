"""The HTTP service as a whole: limits, health, metrics, the page's files and its documentation."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from engine.types import Capacity, SessionClosed
from server.config import ServerConfig
from tests.rigs.paths import ROOT
from tests.rigs.server.server_rig import FakeWorker, config, live, until
from tests.server.http.problem import problem

PROBLEM = "application/problem+json"


async def test_missing_sessions_and_paths_are_reported() -> None:
    async with live() as server:
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/controls"), ("PATCH", "")):
            answer = await server.http.request(method, f"/v1/sessions/nobody{path}", json={"type": "pause"})
            assert problem(answer) == (404, "unknown_session", "session")
        assert problem(await server.http.get("/v1/nothing")) == (404, "not_found", None)
        assert problem(await server.http.put("/v1/sessions", json={})) == (405, "method_not_allowed", None)
        assert problem(await server.http.delete("/v1/sessions/main")) == (403, "forbidden", None)


@pytest.mark.parametrize("kind", ["application/xml", "text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_with_another_content_type_is_refused(kind: str) -> None:
    async with live() as server:
        answer = await server.http.post(
            "/v1/sessions", content=b'{"prompt": "a dog"}', headers={"Content-Type": kind}
        )
        assert problem(answer) == (415, "unsupported_type", "Content-Type")


async def test_a_full_server_says_so_and_when_to_come_back() -> None:
    async with live() as server:
        for _ in range(2):
            assert (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).status_code == 201
        answer = await server.http.post("/v1/sessions", json={"prompt": "a dog"})
        assert problem(answer) == (503, "full", None)
        assert int(answer.headers["retry-after"]) > 0
        assert await server.figure('psistream_admission_rejected_total{reason="sessions"}') == 1


async def test_the_worker_decides_about_capacity_and_when_to_retry() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].open_answer = lambda c: SessionClosed(c.session, "full", "no more", None, 17)
        answer = await server.http.post("/v1/sessions", json={"prompt": "a dog"})
        assert problem(answer) == (503, "full", None)
        assert answer.headers["retry-after"] == "17"
        assert await server.figure('psistream_admission_rejected_total{reason="capacity"}') == 1
        workers[0].tell(Capacity(2, 1, 0.375, 1))
        assert await server.figure('psistream_capacity_sessions{worker="w1"}') == 2
        assert await server.figure('psistream_device_load{worker="w1"}') == 0.375
        ready = (await server.http.get("/readyz")).json()
        assert ready["capacity"] == {"sessions": 2, "open": 1, "load": 0.375, "taken": 1}


async def test_a_flood_of_controls_is_slowed_down() -> None:
    async with live(config(controls_per_s=5.0)) as server:
        # as fast as this machine can: only at 0.2 s for each would none be too early
        statuses = [(await server.control({"type": "pause"})).status_code for _ in range(100)]
        assert statuses[:10] == [202] * 10
        assert 429 in statuses


async def test_a_mistake_of_ours_shows_nothing_of_the_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, name: str) -> None:
        raise ZeroDivisionError("secret path /home/somebody")

    async with live() as server:
        monkeypatch.setattr("server.gateway.gateway.Gateway.session", broken)
        answer = await server.http.get("/v1/sessions/main")
        assert problem(answer) == (500, "internal", None)
        assert "secret" not in answer.text


async def test_without_a_worker_the_server_says_so_and_answers() -> None:
    workers: list[FakeWorker] = []
    settings: ServerConfig = config(restart_limit=0)
    async with live(settings, lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].die()
        refused = await server.http.post("/v1/sessions", json={"prompt": "x"})
        assert problem(refused)[:2] == (503, "unavailable")
        await until(lambda: not server.services.gateway.session_ids(), "end of what no worker goes on with")
        assert problem(await server.control({"type": "pause"})) == (404, "unknown_session", "session")
        ready = await server.http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "signal 9" in ready.json()["reasons"][0]
        alive = await server.http.get("/livez")
        assert (alive.status_code, alive.json()["alive"]) == (503, False)
        assert "gave up after 0 restarts" in alive.json()["reasons"][0]
        assert await server.figure('psistream_worker_up{worker="w1"}') == 0


async def test_a_session_opened_while_the_worker_dies_is_refused_with_a_retry() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].mute = True
        opening = asyncio.create_task(server.http.post("/v1/sessions", json={"prompt": "a dog"}))
        await until(lambda: len(server.services.gateway.sessions) == 2, "request to the worker")
        workers[0].die()
        answer = await opening
        assert problem(answer) == (503, "unavailable", None)
        message = "the worker was lost before this session was opened; try again in a moment"
        assert answer.json()["message"] == message
        assert int(answer.headers["retry-after"]) >= 1
        await until(lambda: server.services.gateway.ready, "next worker")
        assert (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).status_code == 201


async def test_a_server_whose_worker_is_being_replaced_lives() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].die()
        assert (await server.http.get("/readyz")).status_code == 503
        assert (await server.http.get("/livez")).json() == {"alive": True}


async def test_readiness_names_model_and_viewers() -> None:
    async with live() as server:
        for path in ("/readyz", "/healthz"):
            body = (await server.http.get(path)).json()
            assert (body["ready"], body["model"], body["viewers"], body["mqtt"]) == (True, "fake", 0, None)


async def test_metrics_have_one_prefix_and_base_units() -> None:
    async with live() as server:
        response = await server.http.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        names = {line.split()[2] for line in response.text.splitlines() if line.startswith("# TYPE")}
        assert all(name.startswith("psistream_") for name in names)
        assert not any("_ms" in name for name in names)
        assert await server.figure("psistream_sessions") == 1
        assert await server.figure("psistream_session_slots_free") == 2
        assert await server.figure("psistream_mqtt_connected") == -1  # off in this test


async def test_the_page_and_its_files_are_served_with_a_strict_policy() -> None:
    async with live() as server:
        page = await server.http.get("/")
        assert page.status_code == 200
        assert "<html" in page.text
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-cache"
        again = await server.http.get("/", headers={"If-None-Match": page.headers["etag"]})
        assert again.status_code == 304
        assert (await server.http.get("/v1/sessions")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    ["/../__init__.py", "/%2e%2e/__init__.py", "/js/..%2f..%2f__init__.py", "/..%5c__init__.py", "//etc"],
)
async def test_nothing_outside_the_page_is_served(path: str) -> None:
    async with live() as server:
        response = await server.http.get(httpx.URL("http://localhost" + path))
        assert response.status_code == 404


async def test_every_address_is_in_the_documentation() -> None:
    """Its table has a row for each path; a method alone, or after `…`, is of the row's path or below it."""
    documented = set()
    for row in re.findall(r"^\| (`.*)", (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8"), re.M):
        path = ""
        for method, said in re.findall(
            r"`([A-Z]+)(?: (/v1/[^`?]*|…[^`]*))?(?:\?[^`]*)?`", row.partition(" | ")[0]
        ):
            path = said.replace("…", "/v1/sessions/{id}") or path
            documented.add((method, re.sub(r"\{\w+\}", "{}", path)))
    async with live() as server:
        served = {
            (method, re.sub(r"\{\w+\}", "{}", path))
            for route in server.app.routes
            for method in getattr(route, "methods", None) or ()
            # WHEP has a section of its own, and HLS players find its files in the playlist
            if (path := getattr(route, "path", "")).startswith("/v1/")
            and "/whep" not in path
            and not path.endswith("/hls/{name}")
        }
    assert ("DELETE", "/v1/sessions/{}/links/{}") in served
    assert served - documented == set()


async def test_every_documented_metric_exists() -> None:
    doc = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(psistream_\w+)`", doc))
    async with live() as server:
        known = (await server.http.get("/metrics")).text
    assert named
    assert [name for name in named if f"# HELP {name} " not in known] == []
