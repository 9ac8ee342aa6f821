"""HTTP: a session as a file, a session from a file, two futures of one past, and the control log."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.types import OpenSession, SessionClosed
from server.worker.messages.commands import CloseSession, ExportSession
from server.worker.messages.events import Exported
from server.worker.numbering import numbered_log
from tests.rigs.server.rights_rig import KEY
from tests.rigs.server.server_rig import (
    READY,
    FakeWorker,
    Live,
    config,
    live,
    snapshot_file,
    stats,
    until,
)
from tests.server.http.problem import problem

FILE = {"Content-Type": "application/octet-stream"}
SNAPSHOT = snapshot_file()


@asynccontextmanager
async def server(**changes: Any) -> AsyncIterator[tuple[Live, list[FakeWorker]]]:
    workers: list[FakeWorker] = []
    async with live(config(**changes), lambda on_event: FakeWorker(on_event, workers)) as running:
        yield running, workers


async def test_a_session_is_downloaded_and_continues_elsewhere() -> None:
    async with server() as (here, workers):
        workers[0].export_answer = lambda c: Exported(c.session, c.request, SNAPSHOT)
        file = await here.http.get("/v1/sessions/main/snapshot")
        assert file.headers["content-type"] == "application/octet-stream"
        assert file.headers["content-disposition"] == 'attachment; filename="main.safetensors"'
        assert file.content == SNAPSHOT
        made = await here.http.post("/v1/sessions", content=file.content, headers=FILE)
        assert made.status_code == 201
        new = made.json()
        assert workers[0].commands[-1] == OpenSession(new["id"], None, None, snapshot=file.content)
        assert (new["prompt"], bool(new["token"])) == ("as it was", True)


async def test_changes_to_a_snapshot_come_in_the_query_or_in_json() -> None:
    async with server() as (here, workers):
        made = await here.http.post("/v1/sessions?prompt=a%20fox&seed=7", content=SNAPSHOT, headers=FILE)
        expected = OpenSession(made.json()["id"], "a fox", 7, snapshot=SNAPSHOT)
        assert workers[0].commands[-1] == expected
        body = {"snapshot": base64.b64encode(SNAPSHOT).decode(), "prompt": "a fox", "seed": 7}
        made = await here.http.post("/v1/sessions", json=body)
        assert workers[0].commands[-1] == OpenSession(made.json()["id"], "a fox", 7, snapshot=SNAPSHOT)


@pytest.mark.parametrize(
    ("query", "size", "expected"),
    [
        ("seed=x", 9, (400, "invalid", "seed")),
        ("size=3", 9, (400, "invalid", "size")),
        ("prompt=", 9, (400, "invalid", "prompt")),
        ("snapshot=AAAA", 9, (400, "invalid", "snapshot")),
        ("seed=1&seed=2", 9, (400, "invalid", "seed")),
        ("seed=2&seed=2", 9, (400, "invalid", "seed")),
    ],
)
async def test_a_bad_upload_is_refused_with_its_field(
    query: str, size: int, expected: tuple[int, str, str]
) -> None:
    async with server() as (here, _):
        answer = await here.http.post(f"/v1/sessions?{query}", content=b"x" * size, headers=FILE)
        assert problem(answer) == expected


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (snapshot_file(), (413, "too_large", "body")),
        (snapshot_file(model="another"), (400, "invalid", "snapshot")),
        (b"", (400, "invalid", "snapshot")),
    ],
)
async def test_of_another_model_says_more_than_too_large(
    declared: bool, file: bytes, expected: tuple[int, str, str]
) -> None:
    data = file + b"x" * 1_000_000

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    async with server() as (here, _):
        answer = await here.http.post("/v1/sessions", content=data if declared else pieces(), headers=FILE)
        assert problem(answer) == expected


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "application/json"])
async def test_a_file_without_its_content_type_is_refused_with_the_fix(kind: str | None) -> None:
    async with server() as (here, _):
        headers = {"Content-Type": kind} if kind else {}
        answer = await here.http.post("/v1/sessions", content=SNAPSHOT, headers=headers)
        assert problem(answer) == (415, "unsupported_type", "Content-Type")
        assert "application/octet-stream" in answer.json()["message"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a snapshot"),
        (b"x" * 100, "not a snapshot"),
        (b"\xff" * 100, "not a snapshot"),
        (snapshot_file()[:20], "not a snapshot"),
        ((9).to_bytes(8, "little") + b'"a string' + b"x" * 90, "not a snapshot"),
        ((90).to_bytes(8, "little") + b"[" * 100, "not a snapshot"),
        (snapshot_file(kind="pt"), "not a snapshot"),
        (snapshot_file(model="another"), "of the model another, this server runs fake"),
    ],
)
async def test_an_invalid_file_is_reported_even_if_the_server_is_full(data: bytes, says: str) -> None:
    async with server() as (here, workers):
        for _ in range(READY.max_sessions - 1):
            await here.services.gateway.open("one more")
        told_before = len(workers[0].commands)
        answer = await here.http.post("/v1/sessions", content=data, headers=FILE)
        assert problem(answer) == (400, "invalid", "snapshot")
        assert says in answer.json()["message"]
        answer = await here.http.post("/v1/sessions", json={"snapshot": base64.b64encode(data).decode()})
        assert problem(answer) == (400, "invalid", "snapshot")
        assert len(workers[0].commands) == told_before
        answer = await here.http.post("/v1/sessions", content=SNAPSHOT, headers=FILE)
        assert problem(answer)[:2] == (503, "full")


async def test_errors_in_a_snapshot_name_the_field() -> None:
    async with server() as (here, workers):
        workers[0].open_answer = lambda c: SessionClosed(
            c.session, "invalid", "snapshot: it is of a cat", "snapshot"
        )
        answer = await here.http.post("/v1/sessions", content=SNAPSHOT, headers=FILE)
        assert problem(answer) == (400, "invalid", "snapshot")
        assert "of a cat" in answer.json()["message"]


async def test_a_session_gets_a_second_future() -> None:
    async with server() as (here, workers):
        made = await here.http.post("/v1/sessions/main/fork", json={"rewind_s": 5, "prompt": "a fox"})
        assert made.status_code == 201
        new = made.json()
        assert made.headers["location"] == f"/v1/sessions/{new['id']}"
        expected = OpenSession(new["id"], "a fox", None, fork_of="main", rewind_s=5)
        assert workers[0].commands[-1] == expected
        own = {"Authorization": f"Bearer {new['token']}"}
        assert (await here.http.get(f"/v1/sessions/{new['id']}", headers=own)).status_code == 200
        made = await here.http.post("/v1/sessions/main/fork")
        assert workers[0].commands[-1] == OpenSession(made.json()["id"], None, None, fork_of="main")


async def test_the_log_is_json_lines() -> None:
    async with server() as (here, workers):
        file = await here.http.get("/v1/sessions/main/log")
        assert file.headers["content-type"] == "application/jsonl"
        assert file.headers["content-disposition"] == 'attachment; filename="main.jsonl"'
        assert file.content == b"log of main"
        command = workers[0].commands[-1]
        assert isinstance(command, ExportSession)
        assert command.what == "log"


async def test_the_log_uses_the_numbers_that_clients_know() -> None:
    rows: list[dict[str, Any]] = [
        {"format": "psistream-log-1", "segments": 9, "segment": 0, "snapshot": "QUJD"},
        {"segment": 4, "id": "é", "type": "action", "action": None},
        {"segment": 6, "from": -1, "screen": 5, "id": "r", "type": "rewind", "seconds": 5.0},
    ]
    async with server(snapshot_every_s=0.0) as (here, workers):
        workers[0].tell(stats(segment=145))
        workers[0].die()
        await until(lambda: len(workers) == 2 and here.services.gateway.ready, "next worker")
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        shown = numbered_log(data, workers[1].restored[0].numbers)  # as its worker does
        workers[1].export_answer = lambda c: Exported(c.session, c.request, shown)
        file = await here.http.get("/v1/sessions/main/log")
        expected = [
            {**rows[0], "segments": 155, "segment": 146, "before": 146},
            {**rows[1], "segment": 150},
            {**rows[2], "segment": 152, "from": 145, "screen": 151},
        ]
        assert [json.loads(row) for row in file.content.splitlines()] == expected


async def test_copying_needs_the_right_to_steer() -> None:
    async with server(host="0.0.0.0", api_key=KEY) as (here, _):
        main = here.services.gateway.session("main")
        for method, path in (("GET", "snapshot"), ("GET", "log"), ("POST", "fork")):
            url = f"/v1/sessions/main/{path}"
            assert problem(await here.http.request(method, url))[:2] == (401, "unauthorized")
            viewer = {"Authorization": f"Bearer {main.view_token}"}
            assert problem(await here.http.request(method, url, headers=viewer))[:2] == (403, "forbidden")
            driver = {"Authorization": f"Bearer {main.token}"}
            assert (await here.http.request(method, url, headers=driver)).is_success
            gone = f"/v1/sessions/nobody/{path}"
            assert problem(await here.http.request(method, gone, headers=driver))[0] == 404


async def test_a_failed_export_is_reported_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(restart_limit=0, snapshot_every_s=0.0) as (here, workers):
        get = here.http.get
        workers[0].export_answer = lambda c: Exported(c.session, c.request, None, "unavailable", "not now")
        answer = await get("/v1/sessions/main/snapshot")
        assert problem(answer)[:2] == (503, "unavailable")
        assert answer.headers["retry-after"]
        monkeypatch.setattr("server.gateway.exporting.exports.EXPORT_TIMEOUT_S", 0.01)
        workers[0].mute = True
        assert problem(await get("/v1/sessions/main/log"))[:2] == (503, "unavailable")
        assert len(here.services.gateway.exports) == 0


@pytest.mark.parametrize("end", ["session", "worker"])
async def test_an_export_does_not_outlive_its_session_or_its_worker(end: str) -> None:
    async with server(snapshot_every_s=0.0) as (here, workers):
        mine = await here.services.gateway.open("mine")
        workers[0].mute = True
        own = {"Authorization": f"Bearer {mine.token}"}
        asked = asyncio.ensure_future(here.http.get(f"/v1/sessions/{mine.id}/snapshot", headers=own))
        await until(lambda: isinstance(workers[0].commands[-1], ExportSession), "question")
        if end == "session":
            workers[0].tell(SessionClosed(mine.id, "closed", ""))
        else:
            workers[0].die()
        expected = (404, "unknown_session") if end == "session" else (503, "unavailable")
        assert problem(await asked)[:2] == expected


async def test_ids_and_tokens_can_stand_on_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that starts with a dash would be taken for an option."""
    drawn: list[str] = []

    def draw(size: int) -> str:
        drawn.append(("-", "_", "7")[len(drawn) % 3] + f"x{len(drawn)}")
        return drawn[-1]

    monkeypatch.setattr("secrets.token_urlsafe", draw)
    async with server() as (here, _):
        new = (await here.http.post("/v1/sessions", json={"prompt": "a fox"})).json()
        assert [new[name][0] for name in ("id", "token", "view_token")] == ["7", "7", "7"]


async def test_a_client_that_vanishes_while_opening_leaves_no_session() -> None:
    """The token is returned only once, so nobody else could close the session."""
    async with server() as (here, workers):
        body = b'{"prompt": "a fox"}'
        incoming: list[dict[str, Any]] = [
            {"type": "http.request", "body": body, "more_body": False},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            return incoming.pop(0) if len(incoming) > 1 else incoming[0]

        async def send(message: MutableMapping[str, Any]) -> None:
            pass

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/sessions",
            "raw_path": b"/v1/sessions",
            "query_string": b"",
            "headers": headers,
            "scheme": "http",
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
            "root_path": "",
        }
        await here.app(scope, receive, send)
        assert here.services.gateway.session_ids() == ["main"]
        assert isinstance(workers[0].commands[-1], CloseSession)
