"""A directory that listens on a port of loopback, in this process, and members of it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from server.cluster.directory import Directory
from server.cluster.membership import Membership
from server.cluster.messages import JoinMessage, Report, Roster
from server.worker.remote import WorkerAddress
from tests.rigs.server.port_rig import KEY


@contextlib.asynccontextmanager
async def directing(
    port: int = 0, key: bytes = KEY, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Directory, int]]:
    """A directory in this process, and its port."""
    directory = Directory(key)
    server = await asyncio.get_running_loop().create_server(directory.entrance.door(tls), "127.0.0.1", port)
    running = asyncio.create_task(directory.run())
    try:
        yield directory, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        directory.end()
        await asyncio.wait([running])


def member(
    port: int,
    join: JoinMessage,
    report: Report | Callable[[], Report] | None = None,
    key: bytes = KEY,
    on_roster: Callable[[Roster], None] = lambda roster: None,
    *,
    tls: bool = False,
    ca: Path | None = None,
) -> Membership:
    tell = report if report is None or callable(report) else lambda: report
    address = WorkerAddress("localhost" if tls else "127.0.0.1", port, tls)
    return Membership(address, key, ca, lambda: join, on_roster, tell)
