"""Waits until a server can be reached again. It knows addresses and nothing about HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

EVERY_S = 0.3


async def reachable(base: str, within_s: float) -> bool:
    """False if nothing accepted a connection in time.

    Attempts overlap: TCP retransmits packets that were lost during the outage only after one, three and seven
    seconds, while an attempt that starts after the link's return succeeds at once."""
    parts = urlsplit(base)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    until_s = asyncio.get_running_loop().time() + within_s
    attempts: set[asyncio.Task[bool]] = set()
    try:
        while asyncio.get_running_loop().time() < until_s:
            attempts.add(asyncio.create_task(_connects(parts.hostname or "", port), name="reach"))
            done, _ = await asyncio.wait(attempts, timeout=EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if any(attempt.result() for attempt in done):
                return True
            attempts -= done
            if done:  # refused at once
                await asyncio.sleep(EVERY_S)
        return False
    finally:
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)


async def _connects(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
