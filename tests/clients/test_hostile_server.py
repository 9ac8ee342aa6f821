"""Text from a hostile server reaches the terminal as plain text, never as escape sequences or extra lines."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from clients.errors import ClientError
from clients.play.screen import TerminalScreen
from clients.steer import SteerError
from clients.steer.transport import stay_connected
from clients.steer.ways import broker_of, transport_to
from clients.target import Target
from clients.view.command import Figures, main, table
from clients.view.steering import SentControls
from clients.whep import WhepViewer

HARM = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202e\r\nfake: line\x00"
ODD: list[Any] = [HARM, None, True, -1, 1e400, [], {}, [HARM], {"total": HARM, "resumes_in_s": HARM}]
NUMBERS = ("timings_ms", "lead_ms", "state_bytes", "rate", "frame", "segment", "viewers", "late_total")


class Hostile(BaseHTTPRequestHandler):
    status = 503

    def do_GET(self) -> None:
        said = json.dumps({"message": f"no {HARM}", "field": HARM, "code": HARM, "detail": HARM}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_DELETE = do_PATCH = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(params=[400, 401, 503])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    handler = type("Answering", (Hostile,), {"status": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def harmless(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_view_prints_one_harmless_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([url], [url, "--fork"]):
        assert main(words) in (1, 2)
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "owned" in error
        assert harmless(error)


async def test_steering_raises_harmless_errors(url: str) -> None:
    target = Target.parse(url)
    with pytest.raises(SteerError) as caught:
        await broker_of(target)
    assert str(caught.value).isprintable()
    transport = transport_to(url, None, None, "http")
    with pytest.raises(SteerError) as caught:
        await stay_connected(transport, lambda kind, message: None, lambda there: None)
    assert str(caught.value).isprintable()


def test_every_error_of_the_clients_is_printable() -> None:
    assert str(ClientError(HARM)).isprintable()


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_view_shows_any_figures(odd: object) -> None:
    figures, steering = Figures(), SentControls([{"type": "prompt"}])
    viewer = WhepViewer(Target.parse("http://localhost:1"))
    viewer.on_message = figures.message
    viewer.hear(json.dumps({"type": "session", "prompt": odd, "buffering": odd, "paused": odd}))
    viewer.hear(json.dumps({"type": "segment", **dict.fromkeys(NUMBERS, odd)}))
    viewer.hear(json.dumps({"type": "clock", "rtp_offset": odd}))
    viewer.hear(json.dumps({"type": "pong", "id": odd}))
    steering.send(lambda control: "1")
    steering.hear({"type": "receipt", "id": "1", "status": "applied", "message": odd, "segment": odd})
    console = Console(width=100, file=io.StringIO())
    console.print(table(figures, viewer, None, steering))
    assert isinstance(console.file, io.StringIO)
    assert harmless(console.file.getvalue())


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_play_shows_any_state(odd: object) -> None:
    screen = TerminalScreen("main", "localhost", engine=str(odd))
    screen.info = {"prompt": odd, "action": odd, "actions": odd, "buffering": odd, "state_bytes": odd}
    screen.stats = dict.fromkeys(NUMBERS, odd)
    screen.remember("1", "prompt", 0.0)
    screen.hear({"id": "1", "status": "rejected", "code": odd, "message": odd}, 1.0)
    console = Console(width=100, file=io.StringIO())
    console.print(screen.render())
    assert isinstance(console.file, io.StringIO)
    assert harmless(console.file.getvalue())


async def test_a_session_that_ends_says_so_harmlessly() -> None:
    viewer = WhepViewer(Target.parse("http://localhost:1"))
    viewer.hear(json.dumps({"type": "closed", "message": HARM}))
    with pytest.raises(ClientError) as caught:
        await asyncio.wait_for(viewer.ready(5.0), 5.0)
    assert str(caught.value).isprintable()
