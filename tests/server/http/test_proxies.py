"""The server behind a real nginx and a real Caddy, with the configurations that docs/proxies recommends."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from benchmarks.network.ports import free_port
from benchmarks.server.subject import Subject, own_server
from clients.adapter.receiver import Picture
from clients.steer import connect
from clients.target import Target
from clients.whep import WhepViewer
from tests.rigs.paths import ROOT
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.server.gateway_processes import gateway_processes, patient
from tests.rigs.skips import need
from tests.rigs.waiting import LONG_S, until

Kind = Callable[..., list[str]]
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


def nginx(folder: Path, port: int, upstreams: Sequence[int], name: str = "nginx.conf") -> list[str]:
    """Its command line. Uses the recommended file, with other ports and the directives that every nginx
    needs."""
    need(os.path.exists(NGINX), "nginx")
    text = _with_ports((ROOT / "docs" / "proxies" / name).read_text(encoding="utf-8"), upstreams)
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    text = text.replace("server_name video.example.com;", "server_name _;")
    paths = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths}\n{text}\n}}\n"
    )
    return [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _with_ports(text: str, upstreams: Sequence[int]) -> str:
    for number, upstream in enumerate(upstreams, 8080):
        assert f":{number}" in text
        text = text.replace(f":{number}", f":{upstream}")
    return text


def caddy(folder: Path, port: int, upstreams: Sequence[int], name: str = "Caddyfile") -> list[str]:
    """Its command line. Uses the recommended file, on another port and without HTTPS."""
    program = shutil.which("caddy") or ""
    need(bool(program), "caddy")
    text = _with_ports((ROOT / "docs" / "proxies" / name).read_text(encoding="utf-8"), upstreams)
    text = text.replace("video.example.com {", f"http://127.0.0.1:{port} {{", 1)
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + text)
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
                httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, verify=False)
                break
            except httpx.TransportError:
                assert process.poll() is None, f"{command[0]} ended"
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(LONG_S)


@pytest.fixture(scope="module")
def server() -> Iterator[Subject]:
    with own_server([*FAKE_OPTIONS, "--prompt", "a red ball"]) as subject:
        yield subject


@pytest.fixture(params=[nginx, caddy])
def base(request: pytest.FixtureRequest, server: Subject, tmp_path: Path) -> Iterator[str]:
    (upstream,) = re.findall(r":(\d+)/", server.target.base)
    port = free_port()
    with proxy(request.param(tmp_path, port, [int(upstream)]), tmp_path, port):
        yield f"http://127.0.0.1:{port}/video/"


async def test_sessions_are_opened_steered_and_closed_through_it(base: str) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=LONG_S) as http:
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


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "end"), [(nginx, "kill"), (caddy, "stop")])
async def test_two_gateways_behind_it_are_one_server(kind: Kind, end: str, tmp_path: Path) -> None:
    """Until one of them is killed or stopped, and then the other one goes on."""
    port = free_port()
    with gateway_processes("g1", "g2") as gateways:
        ports = [gateway.port for gateway in gateways.values()]
        name = "nginx-gateways.conf" if kind is nginx else "Caddyfile-gateways"
        base = f"http://127.0.0.1:{port}/"
        with proxy(kind(tmp_path, port, ports, name), tmp_path, port):
            async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=LONG_S) as http:
                told = (await http.post("v1/sessions", json={"prompt": "a fox"})).json()
                own = {"Authorization": f"Bearer {told['token']}", "X-Psistream-Passed": "forged"}
                where = f"v1/sessions/{told['id']}"
                for _ in range(8):
                    assert (await http.get(where, headers=own)).status_code == 200
                    assert "set-cookie" not in (await http.get(where, headers=own)).headers
                pictures: list[Picture] = []
                viewer = WhepViewer(Target(base, told["id"], told["token"]))
                viewer.on_picture = pictures.append
                async with viewer:
                    await viewer.ready(60)
                    gateway = gateways[told["id"].partition("-")[0]]
                    await asyncio.to_thread(gateway.kill if end == "kill" else gateway.close)
                    assert (await patient(http, "GET", where, headers=own)).status_code == 200
                    seen = len(pictures)
                    await until(lambda: viewer.ended.is_set() or len(pictures) > seen + 20, "pictures", 90)
                    assert not viewer.end_reason
                assert (await http.delete(where, headers=own)).status_code == 204
