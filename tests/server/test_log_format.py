"""Logs for collectors: one JSON object per line, with the session, and no secrets in either form."""

from __future__ import annotations

import json
import logging
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from benchmarks.network.ports import free_port
from server.log_format import JsonFormatter, TextFormatter, formatter, set_up, without_secrets
from tests.rigs.paths import ROOT
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.waiting import LONG_S


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


def test_text_without_secrets_is_unchanged() -> None:
    plain = "http://host:8080/v1/sessions/main took 1:30 of bearer bonds at a@b.example"
    assert without_secrets(plain) == plain
    assert isinstance(formatter("text"), TextFormatter)


def test_the_server_logs_json_if_configured(capfd: pytest.CaptureFixture[str]) -> None:
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


def test_a_log_that_there_is_already_is_left_alone() -> None:
    """Commands that tests ran limited how much later tests could find in the log."""

    def state() -> list[object]:
        handlers = logging.getLogger().handlers
        assert handlers, "pytest's own"
        about = [(handler, list(handler.filters), handler.formatter) for handler in handlers]
        return [about, logging.raiseExceptions, logging.getLogger("aioice").level]

    before = state()
    set_up("json", "CRITICAL")
    assert state() == before


@contextmanager
def serving(log: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A running server whose worker is another process, and its address. Its output is written to `log`."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "server.cli",
        "serve",
        *FAKE_OPTIONS,
        "--port",
        str(port),
        "--spare",
        "off",
    ]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, *options], stdout=out, stderr=out, cwd=ROOT)
        try:
            end_s = time.monotonic() + LONG_S
            while b"is live" not in log.read_bytes():
                assert process.poll() is None, log.read_text("utf-8")
                assert time.monotonic() < end_s, log.read_text("utf-8")
                time.sleep(0.05)
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def test_every_line_of_a_server_that_logs_json_is_json_and_none_has_a_secret(tmp_path: Path) -> None:
    log, keys, key = tmp_path / "log", tmp_path / "keys", secrets.token_hex(16)
    keys.write_text(f"alice {key}\n")
    keys.chmod(0o600)
    options = ["--log-format", "json", "--log-level", "info", "--api-keys", str(keys), "--mqtt", "off"]
    with serving(log, *options, "--ice-server", "turn:user:open-sesame@127.0.0.1:9") as (process, base):
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=base, trust_env=False, headers=headers, timeout=LONG_S) as http:
            made = http.post("/v1/sessions", json={"prompt": "a fox"})
            assert made.status_code == 201, made.text
            http.get("/", params={"token": made.json()["token"]})
            http.get("/v1/sessions/main", headers={"Authorization": "Bearer a-wrong-one"})
        keys.write_text(f"alice {key}\nbob\n")
        process.send_signal(signal.SIGHUP)
        end_s = time.monotonic() + LONG_S
        while b"were not reloaded" not in log.read_bytes() and time.monotonic() < end_s:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(LONG_S) == 0
    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    told = [entry["message"] for entry in entries]
    assert sum("is live" in line for line in told) == 1
    assert sum("were not reloaded" in line and "line 2" in line for line in told) == 1
    for secret in (key, made.json()["token"], made.json()["view_token"], "open-sesame", "a-wrong-one"):
        assert secret not in log.read_text("utf-8")


def test_a_terminal_that_closes_stops_the_server_in_an_orderly_way(tmp_path: Path) -> None:
    with serving(tmp_path / "log", "--mqtt", "off") as (process, _):
        process.send_signal(signal.SIGHUP)
        assert process.wait(LONG_S) == 0
