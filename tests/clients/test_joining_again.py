"""How a viewer finds out that its gateway is gone, and with which rate it starts at the next one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

import clients.whep
from benchmarks.network.ports import free_port
from benchmarks.server.reader import Reader
from clients import signalling
from clients.errors import ViewError
from clients.target import Target
from clients.whep import WhepViewer
from tests.rigs.server.gateway_processes import gateway_processes, tcp_balancer
from tests.rigs.waiting import LONG_S


@contextlib.asynccontextmanager
async def answering(status: int, asked: Callable[[str], None]) -> AsyncIterator[str]:
    """A server that answers everything with this status, or never if it is 0. `asked` gets request lines."""

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        asked((await reader.readline()).decode())
        if status:
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            await reader.read()  # until the client has gone
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await asyncio.gather(*(task for task in serving if task))


def silent(base: str) -> WhepViewer:
    """A viewer that had a picture, and has not heard anything for a while."""
    viewer = WhepViewer(Target.parse(base))
    viewer._resource = f"{base}v1/sessions/main/whep/g2-secret"
    viewer._opened.set()
    viewer._first.set()
    return viewer


@pytest.mark.parametrize(
    ("status", "gone"), [(503, True), (404, True), (204, False), (500, False), (429, False), (0, False)]
)
async def test_a_silent_gateway_is_left_only_if_a_server_says_that_it_is_gone(
    status: int, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is busy, or behind a link that is away, answers late or not at all."""
    monkeypatch.setattr(signalling, "VANISHED_TIMEOUT_S", LONG_S if status else 0.2)
    asked: list[str] = []
    async with answering(status, asked.append) as base:
        assert await silent(base)._vanished() is gone
    assert [line.split()[:2] for line in asked] == [["GET", "/v1/sessions/main/whep/g2-secret"]]


async def test_where_nobody_answers_nothing_is_known() -> None:
    assert not await silent(f"http://127.0.0.1:{free_port()}/")._vanished()


async def test_a_word_that_comes_meanwhile_counts_more() -> None:
    viewer = silent("http://127.0.0.1:1/")
    async with answering(503, lambda line: viewer.hear('{"type": "pong"}')) as base:
        viewer._resource = f"{base}v1/sessions/main/whep/g2-secret"
        assert not await viewer._vanished()


async def test_a_viewer_says_what_its_last_connection_carried() -> None:
    asked: list[str] = []
    async with answering(503, asked.append) as base:
        viewer = WhepViewer(Target.parse(base))
        for told in ({}, {"kbps": 405}, {"kbps": "many"}):
            viewer.hear(json.dumps({"type": "link", **told}))
            with pytest.raises(ViewError):
                await viewer._connect(LONG_S)
            await viewer.close()
    paths = [line.split()[1] for line in asked]
    whep = "/v1/sessions/main/whep"
    assert paths == [whep, f"{whep}?start_kbps=405", whep]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_viewers_of_a_killed_gateway_do_not_wait_for_the_silence_to_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients.whep, "LOST_S", float("inf"))
    with gateway_processes("g1", "g2") as gateways:
        async with tcp_balancer([each.port for each in gateways.values()]) as base:
            async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=LONG_S) as http:
                new = (await http.post("/v1/sessions", json={"prompt": "a dog"})).json()
            async with Reader(Target(base, new["id"], new["token"])) as reader, asyncio.timeout(LONG_S):
                await reader.ready(LONG_S)
                (shows,) = [each for each in gateways.values() if each.viewers]
                shows.kill()
                while len(reader.seen.joined_s) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                seen = len(reader.seen.frames)
                while len(reader.seen.frames) < seen + 10:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
