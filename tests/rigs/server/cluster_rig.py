"""Gateways of one cluster in this process: real HTTP listeners on loopback, a real worker, a fixed roster.

`Balancer` is a client that sends each request to another gateway, as a load balancer without cookies does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
from fastapi import FastAPI

from server.cluster.messages import ClientUse, GatewayEntry, Roster
from server.gateway.gateway import Gateway
from server.http.app import create_app
from server.http.limited_protocol import ConnectionLimits
from server.http.listener import HttpServer, http_server
from server.serve import bound
from tests.rigs.engine.fakes import ManualClock
from tests.rigs.server.port_rig import KEY, listening, remote, vanish
from tests.rigs.server.server_rig import Live, config, until

API_KEY = "0123456789abcdeffedcba9876543210"
OWNER = {"Authorization": f"Bearer {API_KEY}"}


class Member(Live):
    """A gateway of the cluster, asked directly."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient, server: HttpServer, url: str) -> None:
        super().__init__(app, http)
        self.url, self._server = url, server

    @property
    def gateway(self) -> Gateway:
        return self.services.gateway

    def told(self, roster: Roster) -> None:
        """What it does with a roster, as far as other gateways are concerned."""
        self.gateway.peers.update(roster)
        self.gateway.sessions.budgets.elsewhere(roster.elsewhere)

    async def vanish(self) -> None:
        """As if its process had been killed: its connections end, and nothing is said to anybody."""
        vanish(self.gateway)
        for listener in self._server.servers:
            listener.close()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


class Balancer(httpx.AsyncHTTPTransport):
    """Each request goes to a gateway at random; to another one if that one refuses the connection."""

    def __init__(self, urls: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        self.urls, self._random = list(urls), random.Random(seed)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        *others, last = self._random.sample(self.urls, len(self.urls))
        for url in others:
            with contextlib.suppress(httpx.ConnectError):
                return await super().handle_async_request(_sent_to(request, url))
        return await super().handle_async_request(_sent_to(request, last))


def _sent_to(request: httpx.Request, url: str) -> httpx.Request:
    host = httpx.URL(url)
    request.url = request.url.copy_with(host=host.host, port=host.port)
    return request


@contextlib.asynccontextmanager
async def member(name: str, workers: Sequence[int], **changes: Any) -> AsyncIterator[Member]:
    """A gateway with the workers at these ports."""
    known = {"name": name, "worker_key": KEY, "api_key": API_KEY, **changes}
    settings = config(placement="remote", workers=len(workers), **known)
    makers = [lambda hear, port=port: remote(port, hear) for port in workers]
    app = create_app(settings, makers)
    server, connections = http_server(app, "error", ConnectionLimits())
    with bound("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with app.router.lifespan_context(app):
            sweeping = asyncio.create_task(connections.run())
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await until(lambda: server.started, "listener")
            try:
                async with httpx.AsyncClient(base_url=url, timeout=60, verify=False) as http:
                    yield Member(app, http, server, url)
            finally:
                server.should_exit = True
                await serving
                sweeping.cancel()


def tell(
    *members: Member,
    main: str = "",
    moved: dict[str, str] | None = None,
    used: dict[str, ClientUse] | None = None,
) -> Roster:
    """The roster of these gateways, which all of them are told."""
    entries = tuple(GatewayEntry(each.gateway.peers.name, each.url) for each in members)
    roster = Roster((), entries, moved or {}, main or entries[0].name, used or {})
    for each in members:
        each.told(roster)
    return roster


@contextlib.asynccontextmanager
async def two(**changes: Any) -> AsyncIterator[tuple[Member, Member]]:
    """Gateways g1, which has main, and g2, of two workers. Their clock stands still, so that no session is
    taken for abandoned while this process waits for its turn; a connection that ends is noticed anyway."""
    clock = ManualClock()
    async with listening(clock=clock) as (_, one), listening(clock=clock) as (_, two):
        ports = [one, two]
        async with member("g1", ports, **changes) as g1, member("g2", ports, **changes) as g2:
            tell(g1, g2)
            await until(lambda: "main" in g1.gateway.session_ids(), "main")
            yield g1, g2


@contextlib.asynccontextmanager
async def silent(answer: bytes = b"") -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """A gateway that accepts connections and says no more than this: its URL, and its connections."""
    there: list[asyncio.StreamWriter] = []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.append(writer)
        while await reader.read(65536):
            writer.write(answer)
        there.remove(writer)
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", there
        for writer in list(there):
            writer.close()


async def opened(at: Member) -> tuple[str, dict[str, str]]:
    """A new session of this gateway, and the headers of its owner."""
    deadline_s = time.monotonic() + 60
    while True:  # on a busy machine a worker can be silent for some seconds, and takes no session then
        answer = await at.http.post("/v1/sessions", json={"prompt": "a dog"}, headers=OWNER)
        if answer.status_code != 503 or time.monotonic() > deadline_s:
            break
        await asyncio.sleep(0.1)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], {"Authorization": f"Bearer {answer.json()['token']}"}


def balanced(*members: Member, seed: int = 0) -> httpx.AsyncClient:
    """A client of a load balancer in front of these gateways."""
    transport = Balancer([each.url for each in members], seed)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=OWNER, timeout=60)
