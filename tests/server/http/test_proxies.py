"""The server behind a real nginx and a real Caddy, with the configurations that docs/proxies recommends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from benchmarks.server.subject import Subject, own_server
from clients.steer import connect
from clients.target import Target
from clients.whep import WhepViewer
from tests.rigs.control.network import free_port
from tests.rigs.paths import ROOT
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.skips import need
from tests.rigs.waiting import LONG_S

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


def nginx(folder: Path, port: int, upstream: int) -> list[str]:
    """Its command line. Uses the recommended file, with other ports and the directives that every nginx
    needs."""
    need(os.path.exists(NGINX), "nginx")
    text = (ROOT / "docs" / "proxies" / "nginx.conf").read_text(encoding="utf-8")
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};").replace(
        "127.0.0.1:8080", f"127.0.0.1:{upstream}"
    )
    text = text.replace("server_name video.example.com;", "server_name _;")
    paths = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths}\n{text}\n}}\n"
    )
    return [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, upstream: int) -> list[str]:
    """Its command line. Uses the recommended file, on another port and without HTTPS."""
    program = shutil.which("caddy") or ""
    need(bool(program), "caddy")
    text = (ROOT / "docs" / "proxies" / "Caddyfile").read_text(encoding="utf-8")
    text = text.replace("video.example.com {", f"http://127.0.0.1:{port} {{", 1)
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + text.replace(":8080", f":{upstream}"))
    return [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@contextmanager
def proxy(command: list[str], folder: Path, port: int) -> Iterator[None]:
    homes = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **homes}
    )
    try:
        end_s = time.monotonic() + LONG_S
        while time.monotonic() < end_s:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
                break
            except httpx.TransportError:
                assert process.poll() is None, f"{command[0]} ended"
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def server() -> Iterator[Subject]:
    with own_server([*FAKE_OPTIONS, "--prompt", "a red ball"]) as subject:
        yield subject


@pytest.fixture(params=[nginx, caddy])
def base(request: pytest.FixtureRequest, server: Subject, tmp_path: Path) -> Iterator[str]:
    (upstream,) = re.findall(r":(\d+)/", server.target.base)
    port = free_port()
    with proxy(request.param(tmp_path, port, int(upstream)), tmp_path, port):
        yield f"http://127.0.0.1:{port}/video/"


async def test_sessions_are_opened_steered_and_closed_through_it(base: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(base)).status_code == 200
        assert (await http.get(base.rstrip("/"))).headers["location"].endswith("/video/")
        new = await http.post(f"{base}v1/sessions", json={"prompt": "a fox"})
        told = new.json()
        assert new.headers["location"] == f"/video/v1/sessions/{told['id']}"
        assert told["page"].startswith(base)
        where = httpx.URL(base).join(new.headers["location"])
        headers = {"Authorization": f"Bearer {told['token']}"}
        assert (await http.get(where, headers=headers)).status_code == 200
        assert (await http.delete(where, headers=headers)).status_code == 204
        for path in ("metrics", "livez", "readyz"):
            assert (await http.get(f"{base}{path}")).status_code == 404


async def test_video_and_receipts_reach_a_client_that_knows_only_the_proxy(base: str) -> None:
    async with WhepViewer(Target.parse(base)) as viewer, connect(base) as session:
        await viewer.ready(30)
        assert (await session.prompt("a green hill").applied()).frame is not None
