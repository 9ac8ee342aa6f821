"""Idle connections keep nobody out, and every connection ends eventually."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from server.http.limited_protocol import ConnectionLimits
from tests.rigs.server.server_rig import until
from tests.rigs.server.tcp_rig import Port, get, serving
from tests.rigs.waiting import LONG_S

PATIENT = ConnectionLimits(most=8, reserve=2, headers_s=60, body_s=60, unread_s=60)
UPLOAD = "POST /v1/sessions/main/controls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"


@contextlib.asynccontextmanager
async def silent(port: Port, count: int, sends: str = "") -> AsyncIterator[None]:
    """This many connections that send this and nothing more."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port.number)))
            client.sendall(sends.encode())
        taken = port.connections
        await until(lambda: len(taken) + taken.evicted >= count, f"{count} connections")
        yield


@pytest.mark.parametrize("sends", ["", "GET / HT", UPLOAD, get("/livez").replace("close", "keep-alive")])
async def test_connections_that_wait_for_their_client_give_way(sends: str) -> None:
    """256 silent connections used to make HTTP unreachable for everybody, including /livez."""
    async with serving(PATIENT) as port, silent(port, 4 * PATIENT.most, sends):
        for path in ("/livez", "/v1/sessions/main"):
            status, _ = await port.ask(get(path))
            assert status == 200
        assert len(port.connections) <= PATIENT.most
        assert port.connections.evicted >= 3 * PATIENT.most


async def test_when_all_work_health_and_metrics_still_answer() -> None:
    async with serving(PATIENT) as port:
        mute(port)
        asks = "GET /v1/sessions/main/log HTTP/1.1\r\nHost: localhost\r\n\r\n"
        async with silent(port, PATIENT.most, asks):
            await until(lambda: not any(c.waits_for_client for c in port.connections), "work for all")
            for path in ("/livez", "/metrics"):
                assert (await port.ask(get(path)))[0] == 200
            status, text = await port.ask(get("/v1/sessions/main"))
            assert status == 503
            assert "retry-after: " in text.lower()
            assert json.loads(text.partition("\r\n\r\n")[2])["code"] == "full"


def mute(port: Port) -> None:
    """The worker accepts commands and never answers."""
    worker = port.services.gateway.fleet.first.worker
    assert worker is not None
    worker.send = lambda command: None  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("limits", "sends"),
    [
        (ConnectionLimits(headers_s=0.3), ""),
        (ConnectionLimits(headers_s=0.3), "GET /livez HTTP/1.1\r\nHost: loc"),
        (ConnectionLimits(body_s=0.3), UPLOAD),
        (ConnectionLimits(headers_s=0.3), UPLOAD.replace("/main/", "/none/")),  # nobody reads this body
    ],
)
async def test_headers_and_bodies_have_a_limit_of_time(limits: ConnectionLimits, sends: str) -> None:
    async with serving(limits) as port:
        reader, writer = await port.connect()
        writer.write(sends.encode())
        answer = (await asyncio.wait_for(reader.read(), 20)).decode()
        assert (" 408 " in answer) or not sends or " 404 " in answer
        writer.close()
        await until(lambda: len(port.connections) == 0, "end of the connection")


async def test_an_unread_response_ends_the_connection() -> None:
    async with serving(ConnectionLimits(unread_s=0.3, headers_s=60)) as port:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port.number))
            client.setblocking(False)
            try:
                for _ in range(2000):
                    client.send(get("/metrics").replace("close", "keep-alive").encode())
                    await asyncio.sleep(0)
            except (BlockingIOError, ConnectionError):
                pass
            await until(lambda: port.connections.timed_out, "end of patience")
            await until(lambda: len(port.connections) == 0, "end of the connection")


async def test_one_address_has_a_share_unless_it_is_a_proxy() -> None:
    limits = ConnectionLimits(most=64, per_address=4)
    async with serving(limits) as port, silent(port, 8):
        assert len(port.connections) == 8  # this machine may be a proxy


async def test_a_request_on_a_kept_connection_does_not_wait_for_the_other_sides_receipt() -> None:
    """Nagle's algorithm delayed each request by 44 ms."""
    async with serving(ConnectionLimits()) as port, httpx.AsyncClient(timeout=LONG_S) as http:
        for _ in range(3):
            assert (await http.get(f"http://127.0.0.1:{port.number}/livez")).status_code == 200
        (connection,) = port.connections
        transport = connection.transport.get_extra_info("socket")
        assert transport.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_garbage_instead_of_http_gets_problem_json() -> None:
    async with serving(ConnectionLimits()) as port:
        status, text = await port.ask("\x16\x03\x01 nonsense\r\n\r\n")
        assert status == 400
        assert json.loads(text.partition("\r\n\r\n")[2])["code"] == "invalid"


@pytest.mark.parametrize("path", ["/v1/sessions/main/controls", "/nothing"])
async def test_a_body_that_continues_after_its_response_ends_the_connection(path: str) -> None:
    """The rest used to be read and discarded for ten seconds, at full speed."""
    limits = ConnectionLimits(headers_s=60, body_s=60, unread_s=60)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
    async with serving(limits) as port:
        reader, writer = await port.connect()
        answer = asyncio.create_task(reader.readline())  # before the connection is reset
        writer.write(head.encode())
        sent = 0
        with contextlib.suppress(ConnectionError):
            while len(port.connections) or not sent:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
                await asyncio.sleep(0)
        writer.close()
        assert sent < 20 * 2**20, "what the kernel buffers, at most"
        assert b" 4" in await answer


async def test_uvicorns_log_entries_use_our_format_and_limits() -> None:
    """Each malformed request used to add a line to the log, through a handler of uvicorn's own."""
    async with serving(ConnectionLimits()):
        for name in ("uvicorn", "uvicorn.error"):
            logger = logging.getLogger(name)
            assert not logger.handlers
            assert logger.propagate
