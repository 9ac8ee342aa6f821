"""A server on a real port, for tests below the level of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from server.config import ServerConfig
from server.http.app import create_app
from server.http.connections import Connections
from server.http.limited_protocol import ConnectionLimits
from server.http.listener import http_server
from server.http.services import Services
from server.serve import bound
from server.tasks import Tasks
from tests.rigs.server.server_rig import config, until
from tests.rigs.waiting import LONG_S


@dataclass
class Port:
    number: int
    connections: Connections
    services: Services

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.number)

    async def ask(self, request: str) -> tuple[int, str]:
        """Status and complete response of one request on its own connection."""
        reader, writer = await self.connect()
        writer.write(request.encode())
        text = (await asyncio.wait_for(reader.read(), LONG_S)).decode()
        writer.close()
        return int(text.split(" ", 2)[1]), text


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(limits: ConnectionLimits, settings: ServerConfig | None = None) -> AsyncIterator[Port]:
    app = create_app(settings or config())
    tasks = Tasks()
    with bound("127.0.0.1", 0) as listener:
        async with app.router.lifespan_context(app):
            server, connections = http_server(app, "error", limits)
            tasks.spawn(connections.run(), "limit")
            running = asyncio.create_task(server.serve(sockets=[listener]), name="serve")
            await until(lambda: server.started, "server")
            try:
                yield Port(listener.getsockname()[1], connections, app.state.services)
            finally:
                server.should_exit = server.force_exit = True
                await asyncio.wait_for(running, LONG_S)
                await tasks.close()
