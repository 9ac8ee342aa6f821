"""A worker that listens on a port of loopback, in this process, and gateways' ends of its connections."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from engine.config import RuntimeConfig
from server.config import WorkerConfig
from server.gateway.gateway import Gateway
from server.worker.base import OnEvent
from server.worker.core import Emit, WorkerCore
from server.worker.hosting.host import MAX_GATEWAYS, Host
from server.worker.remote import RemoteWorker, WorkerAddress

KEY = b"0123456789abcdef0123456789abcdef"
FAKE = WorkerConfig(backend="fake", runtime=RuntimeConfig(max_sessions=3))


@contextlib.asynccontextmanager
async def listening(
    key: bytes = KEY,
    tls: ssl.SSLContext | None = None,
    clock: Callable[[], float] = time.monotonic,
    most: int = MAX_GATEWAYS,
) -> AsyncIterator[tuple[Host, int]]:
    """A worker in this process, and its port on loopback."""
    host = Host(key, private=False, most=most, clock=clock)
    server = await asyncio.get_running_loop().create_server(host.entrance.door(tls), "127.0.0.1", 0)
    cores: list[WorkerCore] = []

    def load(emit: Emit) -> WorkerCore:
        cores.append(WorkerCore(FAKE, emit))
        return cores[0]

    running = asyncio.create_task(host.run(load))
    running.add_done_callback(lambda _: server.close())  # as its process does
    try:
        yield host, server.sockets[0].getsockname()[1]
    finally:
        host.end()
        await asyncio.wait([running])
        for core in cores:
            await asyncio.to_thread(core.close)


def remote(
    port: int, hear: OnEvent, key: bytes = KEY, *, tls: bool = False, ca: Path | None = None
) -> RemoteWorker:
    return RemoteWorker(WorkerAddress("localhost" if tls else "127.0.0.1", port, tls), key, ca, hear)


def vanish(gate: Gateway) -> None:
    """As if its process had been killed: it neither says anything to its workers nor hears of them."""
    for supervisor in gate.fleet:
        if isinstance(supervisor.worker, RemoteWorker):
            link = supervisor.worker._link
            link._closing = True
            if link._connection is not None:
                link._connection.abort()


def own_certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """TLS for a server called localhost, and the certificate that its clients must trust."""
    certificate, key = folder / "c.pem", folder / "k.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = [*make, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
