"""HTTP: sessions and their controls, and what bad input is told. The fake backend runs behind it."""

from __future__ import annotations

import asyncio
import base64
import io
import re
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from engine.types import Capacity, OpenSession, Receipt, SessionClosed
from server.config import ServerConfig
from server.worker.messages import SubmitControl
from tests.rigs.paths import ROOT
from tests.rigs.server_rig import FakeWorker, Live, config, live, until

PROBLEM = "application/problem+json"


def picture(
    kind: str = "PNG", size: tuple[int, int] = (300, 200), colour: str | int = "red", mode: str = "RGB"
) -> str:
    data = io.BytesIO()
    Image.new(mode, size, colour).save(data, kind)
    return base64.b64encode(data.getvalue()).decode()


def told(response: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and field of a problem, and it is one."""
    assert response.headers["content-type"] == PROBLEM, response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["message"]
    assert "Traceback" not in response.text
    return response.status_code, body["code"], body["field"]


async def fine(server: Live) -> None:
    """After whatever was sent, the shared session goes on."""
    assert (await server.control({"type": "action", "action": "left"})).status_code == 202
    assert (await server.http.get("/readyz")).status_code == 200


# ---- what works ----


async def test_a_session_is_opened_looked_at_steered_and_closed() -> None:
    async with live() as server:
        made = await server.http.post("/v1/sessions", json={"prompt": "  a  blue dog ", "seed": 5})
        assert made.status_code == 201
        new = made.json()
        assert made.headers["location"] == f"/v1/sessions/{new['id']}"
        assert (new["prompt"], new["seed"]) == ("a blue dog", 5)
        assert new["page"] == f"http://localhost/?session={new['id']}#token={new['token']}"
        assert new["whep"] == f"/v1/sessions/{new['id']}/whep"
        own = {"Authorization": f"Bearer {new['token']}"}
        seen = await server.http.get(f"/v1/sessions/{new['id']}", headers=own)
        assert seen.json()["model"]["actions"] == ["idle", "left", "right", "jump"]
        assert "token" not in seen.json()
        answer = await server.control({"type": "pause", "id": "p"}, new["id"], **own)
        assert (answer.status_code, answer.json()["status"], answer.json()["id"]) == (202, "received", "p")
        assert (await server.http.delete(f"/v1/sessions/{new['id']}", headers=own)).status_code == 204
        gone = await server.http.get(f"/v1/sessions/{new['id']}", headers=own)
        assert told(gone) == (404, "unknown_session", "session")


async def test_sessions_are_listed_with_their_state() -> None:
    async with live() as server:
        await server.http.post("/v1/sessions", json={"prompt": "a blue dog"})
        listed = (await server.http.get("/v1/sessions")).json()["sessions"]
        assert [s["prompt"] for s in listed] == ["a red cat", "a blue dog"]
        assert all(s["state_bytes"] > 0 for s in listed)


async def test_patch_takes_a_desired_state() -> None:
    async with live() as server:
        wanted = {"prompt": "a green hill", "how": "cut", "action": "left", "paused": True}
        answer = await server.http.patch("/v1/sessions/main", json=wanted)
        assert answer.status_code == 202
        assert [r["status"] for r in answer.json()["receipts"]] == ["received"] * 3
        await until(lambda: server.services.gateway.info("main").paused, "pause")
        info = server.services.gateway.info("main")
        assert (info.prompt, info.action) == ("a green hill", "left")


async def test_the_same_id_is_answered_with_the_latest_receipt() -> None:
    async with live() as server:
        await server.control({"type": "prompt", "text": "a blue dog", "id": "x"})
        answers = server.services.gateway.session("main").answers
        await until(lambda: answers["x"].status == "applied", "applied")
        again = await server.control({"type": "prompt", "text": "a blue dog", "id": "x"})
        assert again.json()["status"] == "applied"


async def test_a_refused_control_has_the_status_of_its_reason() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        for code, status in (("busy", 429), ("superseded", 409), ("invalid", 400), ("odd", 500)):
            await server.control({"type": "pause", "id": code})
            workers[0].tell(Receipt("main", code, "rejected", code=code, message="no"))
            again = await server.control({"type": "pause", "id": code})
            assert (again.status_code, again.json()["code"]) == (status, code)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_a_picture_of_any_size_starts_a_session_at_the_models_size(kind: str) -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        body = {"prompt": "a red cat", "image": picture(kind)}
        assert (await server.http.post("/v1/sessions", json=body)).status_code == 201
        command = workers[0].commands[-1]
        assert isinstance(command, OpenSession)
        assert command.image is not None
        assert command.image.shape == (3, 96, 160)
        assert np.allclose(command.image.mean((1, 2)), (255, 0, 0), atol=4)


async def test_a_picture_can_be_a_control() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        answer = await server.control({"type": "image", "data": picture("JPEG", (1200, 1800), "blue")})
        assert answer.status_code == 202
        command = workers[0].commands[-1]
        assert isinstance(command, SubmitControl)
        assert command.control.body.pixels.shape == (3, 96, 160)  # type: ignore[union-attr]


# ---- bad input ----


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"{", 400, "invalid", "message"),
        (b"[1]", 400, "invalid", "message"),
        (b"\xff", 400, "invalid", "message"),
        (b"{}", 400, "invalid", "type"),
        (b'{"type":"fly"}', 400, "invalid", "type"),
        (b'{"type":"prompt"}', 400, "invalid", "text"),
        (b'{"type":"prompt","text":7}', 400, "invalid", "text"),
        (b'{"type":"prompt","text":""}', 400, "invalid", "text"),
        (b'{"type":"prompt","text":"' + b"x" * 1_000_000 + b'"}', 400, "invalid", "text"),
        (b'{"type":"prompt","text":"x","loud":true}', 400, "invalid", "loud"),
        (b'{"type":"prompt","text":"x","how":"hard"}', 400, "invalid", "how"),
        (b'{"type":"action","action":"fly"}', 400, "invalid", "action"),
        (b'{"type":"reset","seed":-1}', 400, "invalid", "seed"),
        (b'{"type":"pause","id":""}', 400, "invalid", "id"),
        (b'{"type":"image","data":"###"}', 400, "invalid", "data"),
        (b'{"type":"image","data":"aGVsbG8="}', 400, "invalid", "data"),
        (b'"' + b"x" * 4_000_000 + b'"', 413, "too_large", "body"),
        (b"[" * 50_000, 400, "invalid", "message"),
    ],
    ids=lambda value: repr(value)[:32],
)
async def test_a_bad_control_is_refused_with_its_field(
    body: bytes, status: int, code: str, field: str
) -> None:
    async with live() as server:
        answer = await server.http.post("/v1/sessions/main/controls", content=body)
        assert told(answer) == (status, code, field)
        await fine(server)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "x" * 3000}, "prompt"),
        ({"prompt": "a cat", "seed": "seven"}, "seed"),
        ({"prompt": "a cat", "image": "aGVsbG8="}, "image"),
        ({"prompt": "a cat", "image": picture()[:200] + "=" * (-200 % 4)}, "image"),
        ({"prompt": "a cat", "size": 3}, "size"),
    ],
    ids=lambda value: str(value)[:32],
)
async def test_a_bad_session_is_refused_with_its_field(body: dict[str, Any], field: str) -> None:
    async with live() as server:
        assert told(await server.http.post("/v1/sessions", json=body)) == (400, "invalid", field)
        await fine(server)


async def test_a_picture_with_too_many_pixels_is_refused_before_it_is_unpacked() -> None:
    async with live() as server:
        bomb = {"type": "image", "data": picture("PNG", (8000, 8000), 0, "1")}
        assert told(await server.control(bomb)) == (400, "invalid", "data")
        await fine(server)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"token": "x"}, "token"),
        ({"paused": "yes"}, "paused"),
        ({"how": "cut"}, "how"),
        ({"prompt": ""}, "prompt"),
        ({"seed": 1.5}, "seed"),
    ],
    ids=str,
)
async def test_a_bad_patch_is_refused_with_its_field(body: dict[str, Any], field: str) -> None:
    async with live() as server:
        assert told(await server.http.patch("/v1/sessions/main", json=body)) == (400, "invalid", field)


async def test_what_is_not_there_is_told() -> None:
    async with live() as server:
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/controls"), ("PATCH", "")):
            answer = await server.http.request(method, f"/v1/sessions/nobody{path}", json={"type": "pause"})
            assert told(answer) == (404, "unknown_session", "session")
        assert told(await server.http.get("/v1/nothing")) == (404, "not_found", None)
        assert told(await server.http.put("/v1/sessions", json={})) == (405, "method_not_allowed", None)
        assert told(await server.http.delete("/v1/sessions/main")) == (403, "forbidden", None)


@pytest.mark.parametrize("kind", ["application/xml", "text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_that_is_not_json_by_its_own_words_is_refused(kind: str) -> None:
    async with live() as server:
        answer = await server.http.post(
            "/v1/sessions", content=b'{"prompt": "a dog"}', headers={"Content-Type": kind}
        )
        assert told(answer) == (415, "unsupported_type", "Content-Type")


async def test_a_full_server_says_so_and_when_to_come_back() -> None:
    async with live() as server:
        for _ in range(2):
            assert (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).status_code == 201
        answer = await server.http.post("/v1/sessions", json={"prompt": "a dog"})
        assert told(answer) == (503, "full", None)
        assert int(answer.headers["retry-after"]) > 0
        assert await server.figure('psistream_admission_rejected_total{reason="sessions"}') == 1


async def test_what_the_device_can_serve_is_for_the_worker_to_say_and_when_to_come_back() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].open_answer = lambda c: SessionClosed(c.session, "full", "no more", None, 17)
        answer = await server.http.post("/v1/sessions", json={"prompt": "a dog"})
        assert told(answer) == (503, "full", None)
        assert answer.headers["retry-after"] == "17"
        assert await server.figure('psistream_admission_rejected_total{reason="capacity"}') == 1
        workers[0].tell(Capacity(2, 1, 0.375))
        assert await server.figure("psistream_capacity_sessions") == 2
        assert await server.figure("psistream_device_load") == 0.375
        ready = (await server.http.get("/readyz")).json()
        assert ready["capacity"] == {"sessions": 2, "open": 1, "load": 0.375}


async def test_a_flood_of_controls_is_slowed_down() -> None:
    async with live(config(controls_per_s=5.0)) as server:
        statuses = [(await server.control({"type": "pause"})).status_code for _ in range(15)]
        assert statuses[:10] == [202] * 10
        assert statuses[-1] == 429


async def test_a_mistake_of_ours_shows_nothing_of_the_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, name: str) -> None:
        raise ZeroDivisionError("secret path /home/somebody")

    async with live() as server:
        monkeypatch.setattr("server.gateway.gateway.Gateway.session", broken)
        answer = await server.http.get("/v1/sessions/main")
        assert told(answer) == (500, "internal", None)
        assert "secret" not in answer.text


async def test_without_a_worker_the_server_says_so_and_answers() -> None:
    workers: list[FakeWorker] = []
    settings: ServerConfig = config(restart_limit=0)
    async with live(settings, lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].die()
        assert told(await server.http.post("/v1/sessions", json={"prompt": "x"}))[:2] == (503, "unavailable")
        await until(lambda: not server.services.gateway.session_ids(), "end of what no worker goes on with")
        assert told(await server.control({"type": "pause"})) == (404, "unknown_session", "session")
        ready = await server.http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "signal 9" in ready.json()["reasons"][0]
        alive = await server.http.get("/livez")
        assert (alive.status_code, alive.json()["alive"]) == (503, False)
        assert "given up after 0 restarts" in alive.json()["reasons"][0]
        assert await server.figure("psistream_worker_up") == 0


async def test_who_opens_a_session_as_the_worker_dies_is_told_to_try_again() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].mute = True
        opening = asyncio.create_task(server.http.post("/v1/sessions", json={"prompt": "a dog"}))
        await until(lambda: len(server.services.gateway.sessions) == 2, "request to the worker")
        workers[0].die()
        answer = await opening
        assert told(answer) == (503, "unavailable", None)
        assert (
            answer.json()["message"] == "the worker was lost before this video began; try again in a moment"
        )
        assert int(answer.headers["retry-after"]) >= 1
        await until(lambda: server.services.gateway.ready, "next worker")
        assert (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).status_code == 201


async def test_a_server_whose_worker_is_being_replaced_lives() -> None:
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].die()
        assert (await server.http.get("/readyz")).status_code == 503
        assert (await server.http.get("/livez")).json() == {"alive": True}


# ---- for who runs it ----


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
    doc = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    async with live() as server:
        for route in server.app.routes:
            path = getattr(route, "path", "").replace("session_id", "id")
            if path.startswith("/v1/") and "/whep" not in path:
                for method in getattr(route, "methods", None) or ():
                    assert f"| `{method} {path}`" in doc, f"{method} {path}"


async def test_every_metric_that_operators_are_told_of_exists() -> None:
    doc = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(psistream_\w+)`", doc))
    async with live() as server:
        known = (await server.http.get("/metrics")).text
    assert named
    assert [name for name in named if f"# HELP {name} " not in known] == []
