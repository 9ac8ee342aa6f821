"""`psistream workers` against its own server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from benchmarks.server.subject import own_server
from clients.workers import main
from tests.rigs.server.fake_device import FAKE_OPTIONS


def test_an_operator_drains_a_worker_and_takes_it_back(capsys: pytest.CaptureFixture[str]) -> None:
    with own_server([*FAKE_OPTIONS, "--workers", "2"]) as server:
        url = ["--url", server.target.base]
        assert main(url) == 0
        assert [row.split()[:3] for row in capsys.readouterr().out.splitlines()[1:]] == [
            ["w1", "running", "1"],
            ["w2", "running", "0"],
        ]
        assert main(["drain", "w1", *url]) == 0
        assert capsys.readouterr().out == "w1 is drained\n"
        assert main(["drain", "w2", *url]) == 1
        assert "w2 is the only worker that accepts sessions now" in capsys.readouterr().err
        assert main(["take-back", "w1", *url]) == 0
        assert main(["drain", "w7", *url]) == 2
        assert "unknown worker 'w7'; the workers are w1, w2" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["drain"], ["list", "w1"], ["explode"], ["--timeout", "-1"]])
def test_bad_input_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "argument what" not in shown  # which no help names


def test_no_server_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:9"]) == 1
    assert "cannot reach http://127.0.0.1:9" in capsys.readouterr().err


class Odd(BaseHTTPRequestHandler):
    """Answers every request with the next of these; the last one again and again."""

    said: list[str]
    status: int

    def do_GET(self) -> None:
        body = (self.said.pop(0) if len(self.said) > 1 else self.said[0]).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@contextlib.contextmanager
def answering(*said: str, status: int = 200) -> Iterator[str]:
    handler = type("Answering", (Odd,), {"said": list(said), "status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


W1 = '{"id": "w1", "state": "[red]up\\u001b[2J", "sessions": 1, "places": 2, "capacity": null, "fault": null}'


@pytest.mark.parametrize(
    "said", ["<html>", "[]", "{}", '"x"', "3", '{"workers": 3}', '{"workers": [{}]}', '{"workers": ["x"]}']
)
@pytest.mark.parametrize("what", [["list"], ["drain", "w1"], ["take-back", "w1"]])
def test_what_is_no_psistream_server_is_one_line(
    said: str, what: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(said) as url:
        assert main([*what, "--url", url]) == 1
    shown = capsys.readouterr().err
    assert "answered without workers: is it a psistream server?" in shown
    assert shown.count("\n") == 1


def test_another_server_is_not_said_to_have_no_session(capsys: pytest.CaptureFixture[str]) -> None:
    with answering("<html>", status=404) as url:
        assert main(["--url", url]) == 2
    assert capsys.readouterr().err.endswith("/ answered 404: is it a psistream server?\n")


def test_a_servers_text_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(f'{{"workers": [{W1}]}}') as url:
        assert main(["--url", url]) == 0
    assert "[red]up" in (shown := capsys.readouterr().out)
    assert "\x1b" not in shown


def test_a_row_in_a_pipe_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long faults were folded, and `grep` found half of them."""
    monkeypatch.delenv("COLUMNS", raising=False)
    fault = "the worker could not be used: " + "no connection, " * 20
    with answering(json.dumps({"workers": [{**json.loads(W1), "fault": fault}]})) as url:
        assert main(["--url", url]) == 0
    assert fault.strip() in capsys.readouterr().out.splitlines()[1]


def test_a_worker_that_leaves_during_its_drain_is_drained(capsys: pytest.CaptureFixture[str]) -> None:
    """It was a traceback. A worker of a cluster leaves the list once it has ended and has no session."""
    with answering(W1, f'{{"workers": [{W1}]}}', '{"workers": []}') as url:
        assert main(["drain", "w1", "--url", url]) == 0
    assert capsys.readouterr().out == "w1 is drained\n"


def test_an_empty_id_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drain", ""]) == 2
    assert "drain takes the ID of a worker" in capsys.readouterr().err
