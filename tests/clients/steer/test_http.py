"""Steering by HTTP while the server has no answer yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from clients.steer import Refused, connect


class Restoring(BaseHTTPRequestHandler):
    """Its session is not there at the first control; prompts for cats are refused."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.answer(200, {"id": "main", "prompt": "a dog", "lost_frames": []})

    def do_POST(self) -> None:
        control = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(control["id"])
        if len(self.asked) == 1:
            waits = {"code": "unavailable", "message": "this session could not be resumed yet"}
            self.answer(503, waits, {"Retry-After": "0"})
        elif control["text"] == "a bird":
            told = {"type": "receipt", "id": control["id"], "status": "rejected", "code": "busy"}
            self.answer(429, {**told, "message": "too many controls wait"})
        elif control["text"] == "a cat":
            self.answer(503, {"code": "worker_lost", "message": "open another session"})
        else:
            self.answer(202, {"type": "receipt", "id": control["id"], "status": "applied", "frame": 8})

    def answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def restoring() -> Iterator[tuple[str, list[str]]]:
    """Its address, and the ids of the controls that it is sent."""
    asked: list[str] = []
    handler = type("Answering", (Restoring,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


async def test_a_server_that_asks_to_try_again_is_asked_again(restoring: tuple[str, list[str]]) -> None:
    """It was taken for a refusal, and the control was lost."""
    url, asked = restoring
    async with connect(url) as session:
        sent = session.prompt("a fox")
        assert (await sent.applied()).frame == 8
        assert asked == [sent.id, sent.id]
        with pytest.raises(Refused, match="too many controls wait"):  # the id was answered: it is final
            await session.prompt("a bird").applied()
        with pytest.raises(Refused, match="open another session"):
            await session.prompt("a cat").applied()
