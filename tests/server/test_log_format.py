"""Logs for collectors: one JSON object per line, with the session, and no secrets in either form."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime

import pytest

from server.log_format import JsonFormatter, TextFormatter, formatter, without_secrets


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("server.x", logging.WARNING, __file__, 1, message, args, info)


def test_an_entry_is_one_line_of_json_that_names_its_session() -> None:
    entry = json.loads(JsonFormatter().format(record("session %s: a frame\nis lost", "a-b_1")))
    assert (entry["level"], entry["logger"], entry["session"]) == ("warning", "server.x", "a-b_1")
    assert entry["message"] == r"session a-b_1: a frame\nis lost"
    assert datetime.fromisoformat(entry["time"]).utcoffset() is not None
    assert "session" not in json.loads(JsonFormatter().format(record("a spare worker has taken over")))


def test_a_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("Authorization: Bearer abcdefghijk")
    except ValueError as error:
        text = JsonFormatter().format(record("failed", error=error))
    assert "\n" not in text
    assert "ValueError" in json.loads(text)["traceback"]
    assert "abcdefghijk" not in text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("GET /?session=a#token=sesame-1 failed", "sesame-1"),
        ("Authorization: Bearer sesame.2~x", "sesame.2"),
        ("broker mqtt://user:sesame3@host:1883", "sesame3"),
        ("turn:user:sesame4@host:3478", "sesame4"),
        ("http://h/?key=sesame5&x=1", "sesame5"),
    ],
)
@pytest.mark.parametrize("kind", ["json", "text"])
def test_secrets_stay_out(text: str, secret: str, kind: str) -> None:
    shown = formatter(kind).format(record("%s", text))
    assert secret not in shown
    assert "…" in shown


def test_what_is_no_secret_stays() -> None:
    plain = "http://host:8080/v1/sessions/main took 1:30 of bearer bonds at a@b.example"
    assert without_secrets(plain) == plain
    assert isinstance(formatter("text"), TextFormatter)


def test_the_server_logs_json_if_it_is_asked_to(capfd: pytest.CaptureFixture[str]) -> None:
    import subprocess

    program = (
        "import logging, sys; from server import serve\n"
        "log = logging.getLogger('server.test')\n"
        "serve.settings = lambda args: log.error('session main: hello') or sys.exit(0)\n"
        "serve.main(['--log-format', 'json'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr)["session"] == "main"


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_client_forges_no_entry_and_reaches_no_terminal(kind: str) -> None:
    harm = "GET /\x1b[2J\x9b2J\u202e\r\n2026-01-01 ERROR forged"
    try:
        raise ValueError(harm)
    except ValueError as error:
        written = formatter(kind).format(record("%s failed", harm, error=error))
    assert all(character.isprintable() for character in written.replace("\n", ""))
    lines = written.split("\n")
    assert not any(line.startswith("2026-01-01") for line in lines)
    assert r"\x1b[2J\x9b2J\u202e\r\n" in (json.loads(written)["message"] if kind == "json" else lines[0])
