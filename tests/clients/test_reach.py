"""Waiting for a server to come back."""

from __future__ import annotations

import asyncio
import socket

from clients.reach import reachable


async def test_a_returning_server_is_detected() -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    waiting = asyncio.create_task(reachable(f"http://127.0.0.1:{port}/", 30.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
    async with server:
        assert await waiting


async def test_a_server_that_stays_away_is_reported() -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        assert not await reachable(f"http://127.0.0.1:{place.getsockname()[1]}/", 0.1)
