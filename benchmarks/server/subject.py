"""A server to measure: our own on a free port, or one that is already running."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import httpx

from benchmarks.report import BenchError
from clients.http import is_loopback
from clients.target import Target
from engine.commandline.runner import BAD_INPUT
from engine.errors import InvalidInput

LIVE = re.compile(r"psistream is live at http://localhost:(\d+)")
START_S = 120.0
STOP_S = 15.0


@dataclass(frozen=True)
class Subject:
    """What is measured. `pid` and `start_s` are known only for our own server."""

    target: Target
    pid: int | None = None
    start_s: float | None = None


@contextlib.contextmanager
def own_server(arguments: Sequence[str] = (), port: int = 0) -> Iterator[Subject]:
    """`psistream serve` on this port, or on a free one if it is 0; stopped at the end. Raises BenchError,
    InvalidInput."""
    command = [sys.executable, "-m", "server.cli", "serve", "--port", str(port), "--mqtt", "off", *arguments]
    with tempfile.TemporaryFile("a+", encoding="utf-8") as log:  # reading moves where "w+" would write
        begun_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            base = _wait_ready(process, log)
            yield Subject(Target.parse(base), process.pid, time.perf_counter() - begun_s)
        finally:
            stop(process)


def is_ready(base: str) -> bool:
    """Raises httpx.HTTPError."""
    # without TLS no certificates are loaded, which takes 20 ms each time
    return httpx.get(f"{base}/readyz", timeout=2.0, trust_env=False, verify=False).status_code == 200


def stop(process: subprocess.Popen[bytes]) -> None:
    """In an orderly way if it can be, and return once it is gone."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], log: IO[str]) -> str:
    """Where it listens."""
    until_s = time.perf_counter() + START_S
    while time.perf_counter() < until_s:
        ended = process.poll() is not None
        log.seek(0)
        told = log.read()
        if ended:
            lines = told.strip().splitlines()
            kind = InvalidInput if process.returncode == BAD_INPUT else BenchError
            raise kind(f"the server did not start: {lines[-1] if lines else process.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            if live := LIVE.search(told):
                base = f"http://127.0.0.1:{live[1]}"
                if is_ready(base):
                    return base
        time.sleep(0.05)
    raise BenchError(f"the server was not ready after {START_S:g} s")


@contextlib.contextmanager
def running_server(url: str, session: str | None, token: str | None) -> Iterator[Subject]:
    """A session of a running server: the named one, or a new one that is closed at the end."""
    target = Target.parse(url, session, token)
    if session is not None or "session=" in url:
        yield Subject(target)
        return
    try:
        with httpx.Client(
            base_url=target.base,
            timeout=15.0,
            headers=target.headers,
            trust_env=not is_loopback(target.base),
        ) as http:
            response = http.post("v1/sessions", json={"prompt": "a red fox walks right through a forest"})
            if response.status_code != 201:
                message = response.json().get("message", response.status_code)
                raise BenchError(f"{target.base} refuses to open a session: {message}")
            opened = response.json()
            own = Target(target.base, opened["id"], opened["token"])
            try:
                yield Subject(own)
            finally:
                with contextlib.suppress(httpx.HTTPError):
                    http.delete(own.path, headers=own.headers)
    except (httpx.HTTPError, ValueError) as error:
        raise BenchError(f"cannot reach {target.base}: is `psistream serve` running there?") from error
