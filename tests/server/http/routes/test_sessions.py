"""HTTP sessions and controls, and the errors for bad input, with the fake backend."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.types import OpenSession, Receipt
from engine.video import Mp4Writer
from server.worker.messages.commands import SubmitControl
from tests.rigs.server.server_rig import FakeWorker, Live, live, until
from tests.server.http.problem import problem

PROBLEM = "application/problem+json"


def picture(
    kind: str = "PNG", size: tuple[int, int] = (300, 200), colour: str | int = "red", mode: str = "RGB"
) -> str:
    data = io.BytesIO()
    Image.new(mode, size, colour).save(data, kind)
    return base64.b64encode(data.getvalue()).decode()


async def fine(server: Live) -> None:
    """Whatever was sent, the shared session continues."""
    assert (await server.control({"type": "action", "action": "left"})).status_code == 202
    assert (await server.http.get("/readyz")).status_code == 200


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
        assert problem(gone) == (404, "unknown_session", "session")


async def test_sessions_are_listed_with_their_state() -> None:
    async with live() as server:
        await server.http.post("/v1/sessions", json={"prompt": "a blue dog"})
        listed = (await server.http.get("/v1/sessions")).json()["sessions"]
        assert [s["prompt"] for s in listed] == ["a red cat", "a blue dog"]
        assert all(s["state_bytes"] > 0 for s in listed)


async def test_patch_accepts_a_desired_state() -> None:
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
        assert problem(answer) == (status, code, field)
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
        assert problem(await server.http.post("/v1/sessions", json=body)) == (400, "invalid", field)
        await fine(server)


async def test_a_picture_with_too_many_pixels_is_refused_before_it_is_unpacked() -> None:
    async with live() as server:
        bomb = {"type": "image", "data": picture("PNG", (8000, 8000), 0, "1")}
        assert problem(await server.control(bomb)) == (400, "invalid", "data")
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
        assert problem(await server.http.patch("/v1/sessions/main", json=body)) == (400, "invalid", field)


def clip(seconds: float, tmp: Path) -> str:
    with Mp4Writer(tmp / "clip.mp4", width=160, height=96, fps=16) as writer:
        for _ in range(round(16 * seconds)):
            writer.add(np.full((96, 160, 3), 90, np.uint8))
    return base64.b64encode((tmp / "clip.mp4").read_bytes()).decode()


async def test_a_session_continues_a_clip(tmp_path: Path) -> None:
    """The worker gets the first frame and the last ones, at the model's size."""
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        body = {"prompt": "a red cat", "video": clip(1.0, tmp_path)}
        assert (await server.http.post("/v1/sessions", json=body)).status_code == 201
        await fine(server)
    (opened,) = [c for w in workers for c in w.commands if isinstance(c, OpenSession) and c.video is not None]
    assert opened.video is not None
    assert opened.video.shape == (17, 3, 96, 160)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"video": base64.b64encode(b"#EXTM3U\nfile:///etc/passwd").decode()}, "must be an MP4, MOV, WebM"),
        ({"video": "!"}, "is not base64"),
        ({"video": "AAAA" * 3_000_000}, "a clip may have 8388608 bytes"),
        ({"video": "AAAA", "image": "AAAA"}, "send it without image and snapshot"),
    ],
)
async def test_clips_that_cannot_be_continued_are_named(body: dict[str, str], said: str) -> None:
    async with live() as server:
        answer = await server.http.post("/v1/sessions", json={"prompt": "a cat", **body})
        assert answer.status_code in (400, 413), answer.text
        assert answer.status_code == 413 or said in answer.text
        await fine(server)
