"""One connection: when it writes, and what it calls its peer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from server.worker.remote import WorkerAddress, connect
from server.worker.wire import handshake
from server.worker.wire.connection import Connection
from server.worker.wire.schema import Hello
from tests.rigs.server.port_rig import own_certificate
from tests.rigs.waiting import LONG_S, until


async def test_messages_leave_at_once_under_tls(tmp_path: Path) -> None:
    """Every second one waited until something came from the other side, so often no greeting was answered."""
    context, certificate = await asyncio.to_thread(own_certificate, tmp_path)
    ends: list[Connection] = []

    def end() -> Connection:
        ends.append(Connection(lambda why: None))
        return ends[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(end, "127.0.0.1", 0, ssl=context)
    async with server:
        address = WorkerAddress("localhost", server.sockets[0].getsockname()[1], True)
        await connect(address, certificate, end)
        await until(lambda: len(ends) == 2, "both ends")
        for sender, receiver in (ends, ends[::-1]):
            for _ in range(4):
                sender.send(handshake.hello())
                assert isinstance(await receiver.receive(LONG_S), Hello)
        for each in ends:
            each.abort()


async def test_who_did_not_get_through_tls_is_not_said_to_be_this_machine() -> None:
    assert Connection(lambda why: None).peer == "a visitor whose TLS failed"


class Noting(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))


async def test_nothing_is_written_while_asyncio_says_that_it_may() -> None:
    """If that write failed, since the peer had just gone, asyncio logged two tracebacks."""
    connection, transport = Connection(lambda why: None), Noting()
    connection.connection_made(transport)
    connection.pause_writing()
    connection.send(handshake.hello())
    connection.resume_writing()
    assert not transport.written
    await until(lambda: transport.written, "the message")
