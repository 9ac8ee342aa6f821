"""Gateway and worker are real processes and killed together: the next ones go on with their sessions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.rigs.paths import ROOT
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.server.server_rig import watcher
from tests.rigs.storage.redis_rig import Redis, need_redis
from tests.rigs.storage.s3_rig import S3
from tests.rigs.waiting import LONG_S

KEY = "0123456789abcdeffedcba9876543210"


@pytest.fixture(params=["file", "redis", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "file":
        yield (tmp_path / "kept").as_uri()
    elif request.param == "s3":
        with S3() as server:
            for name, value in server.account().items():
                monkeypatch.setenv(name, value)
            yield server.url
    else:
        need_redis()
        with Redis() as server:
            yield server.url


@contextlib.contextmanager
def serving(place: str) -> Iterator[httpx.Client]:
    """A server with its worker in a process of its own. At the end both are killed."""
    command = [sys.executable, "-m", "server.cli", "serve", *FAKE_OPTIONS, "--port", "0", "--mqtt", "off"]
    command += ["--snapshots", place, "--snapshots-every", "1", "--api-key", KEY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment, start_new_session=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://localhost:(\d+)", process.stdout.readline())
        assert found is not None
        with httpx.Client(base_url=f"http://localhost:{found[1]}", timeout=LONG_S) as http:
            yield http
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def figure(http: httpx.Client, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", http.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.slow
async def test_sessions_come_back_with_tokens_links_and_receipts(place: str) -> None:
    saved = 'psistream_saved_sessions_total{result="saved"}'
    control = {"type": "prompt", "id": "c1", "text": "a blue cat"}
    with serving(place) as http:
        answer = http.post("/v1/sessions", json={"prompt": "a dog"}, headers=bearer(KEY))
        mine = answer.json()
        url, own = f"/v1/sessions/{mine['id']}", bearer(mine["token"])
        link = http.post(f"{url}/links", json={"role": "viewer"}, headers=own).json()["token"]
        assert http.post(f"{url}/controls", json=control, headers=own).status_code == 202
        end_s = time.monotonic() + LONG_S
        while http.post(f"{url}/controls", json=control, headers=own).json()["status"] != "applied":
            assert time.monotonic() < end_s
            await asyncio.sleep(0.05)
        count = figure(http, saved)
        while figure(http, saved) < count + 4:  # of two sessions: each was saved after that
            assert time.monotonic() < end_s
            await asyncio.sleep(0.05)
        was = http.get(url, headers=own).json()

    with serving(place) as http:
        end_s = time.monotonic() + LONG_S
        while (answer := http.get(url, headers=own)).status_code != 200:
            assert time.monotonic() < end_s, answer.text
            await asyncio.sleep(0.05)
        back = answer.json()
        assert back["prompt"] == "a blue cat"
        assert back["frame"] >= was["frame"]
        assert back["segment"] >= was["segment"]
        again = http.post(f"{url}/controls", json=control, headers=own).json()
        assert again["status"] == "applied", "it isn't applied a second time"
        assert http.get(url, headers=bearer(mine["view_token"])).status_code == 200
        assert http.get(url, headers=bearer(link)).status_code == 200
        assert http.get(url, headers=bearer("link-x")).status_code == 401
        async with watcher() as viewer:
            headers = {"Content-Type": "application/sdp", **bearer(link)}
            await viewer.accept(http.post(f"{url}/whep", content=await viewer.offer(), headers=headers))
            await viewer.frame(LONG_S)
