"""A port with TLS: a visitor counts from the moment when it connects, and not only once TLS has begun.

asyncio tells a server's protocol of a connection after the handshake, for which strangers have a minute,
and cannot hang up before.
"""

from __future__ import annotations

import asyncio
import ssl

from server.tasks import Tasks
from server.worker.wire.connection import GREETING_S, Connection


class Doorstep(asyncio.Protocol):
    """Of a new visitor. It becomes the transport of `connection` with TLS; until then that one can end it."""

    def __init__(self, connection: Connection, tls: ssl.SSLContext, tasks: Tasks) -> None:
        self._connection, self._tls, self._tasks = connection, tls, tasks
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        if self._connection.arrives_by(transport):
            self._tasks.spawn(self._begin(transport), "begin-tls")

    def connection_lost(self, error: Exception | None) -> None:
        if not self._begun:
            self._connection.connection_lost(error)

    async def _begin(self, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            return
        self._begun, loop = True, asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(
                transport, self._connection, self._tls, server_side=True, ssl_handshake_timeout=GREETING_S
            )
        except OSError:  # also of TLS: it speaks something else, does not trust us, or has hung up
            secure = None
        if secure is None:
            self._connection.connection_lost(None)
        else:
            self._connection.connection_made(secure)
