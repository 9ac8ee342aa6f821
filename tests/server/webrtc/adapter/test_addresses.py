"""Hooks for addresses and for the source filter. If a new aioice moves one, a test here names it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aioice
import pytest
from aiortc import RTCSessionDescription

from server.webrtc.adapter.addresses import Gatherer, SourceFilter, ice_connection
from tests.rigs.server.server_rig import answering, until, watcher

HOST = "127.0.0.1"


@asynccontextmanager
async def gathered(
    *addresses: str, gatherer: Gatherer | None = None, **servers: Any
) -> AsyncIterator[tuple[aioice.Connection, SourceFilter, list[aioice.Candidate]]]:
    """An ICE agent on a machine with these addresses besides loopback, and its candidates."""
    connection = aioice.Connection(ice_controlling=False, **servers)
    (gatherer or Gatherer()).install(cast(Any, connection))
    source = SourceFilter(cast(Any, connection), clock=lambda: 5.0)
    source.install()
    candidates = await connection.get_component_candidates(component=1, addresses=list(addresses))
    try:
        yield connection, source, candidates
    finally:
        await connection.close()


def silent_server() -> tuple[socket.socket, tuple[str, int]]:
    """A UDP port that receives and never answers."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    return sock, sock.getsockname()


def below_a_free_one() -> tuple[socket.socket, int]:
    """A UDP port that is taken, and whose successor was free a moment ago."""
    while True:
        sock, (_, port) = silent_server()
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as next_:
            next_.bind((HOST, port + 1))
            return sock, port
        sock.close()


async def test_a_machine_with_loopback_only_uses_it() -> None:
    async with gathered() as (_, _, candidates):
        assert {c.host for c in candidates} <= {"127.0.0.1", "::1"}
        assert candidates


async def test_a_machine_with_an_address_does_not_offer_loopback() -> None:
    async with gathered("127.0.0.2") as (_, _, candidates):
        assert [c.host for c in candidates] == ["127.0.0.2"]


async def test_only_the_chosen_address_is_offered() -> None:
    async with gathered("127.0.0.2", gatherer=Gatherer(only=(HOST,))) as (_, _, candidates):
        assert [c.host for c in candidates] == [HOST]


async def test_a_missing_address_is_skipped() -> None:
    async with gathered("203.0.113.7", "127.0.0.2") as (_, _, candidates):
        assert [c.host for c in candidates] == ["127.0.0.2"]


async def test_ports_come_from_the_range_and_one_that_is_taken_is_passed_over() -> None:
    taken, first = below_a_free_one()
    gatherer = Gatherer(ports=(first, first + 1))
    try:
        async with gathered("127.0.0.1", gatherer=gatherer) as (_, _, candidates):
            assert [c.port for c in candidates] == [first + 1]
            with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
                async with gathered("127.0.0.1", gatherer=gatherer):
                    pass
    finally:
        taken.close()


async def test_a_connection_that_closes_while_it_gathers_leaves_no_socket() -> None:
    probe, (_, port) = silent_server()
    probe.close()
    connection = aioice.Connection(ice_controlling=False)
    Gatherer(ports=(port, port)).install(cast(Any, connection))
    hosts = [f"127.0.0.{n}" for n in range(2, 6)]
    gathering = asyncio.create_task(connection.get_component_candidates(component=1, addresses=hosts))
    await asyncio.sleep(0)  # it opens the first
    await connection.close()
    await gathering
    for host in hosts:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, port))  # no interface has it any more


async def test_a_gathering_that_fails_leaves_its_sockets_to_the_connection() -> None:
    taken, (_, port) = silent_server()
    connection = aioice.Connection(ice_controlling=False)
    Gatherer(ports=(port, port)).install(cast(Any, connection))
    with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
        await connection.get_component_candidates(component=1, addresses=["127.0.0.2", HOST])
    await connection.close()
    taken.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.2", port))


async def test_the_public_address_is_offered_beside_the_private_one() -> None:
    gatherer = Gatherer(public=("203.0.113.7", "2001:db8::7"))
    async with gathered("127.0.0.2", gatherer=gatherer) as (_, _, (private, public)):
        assert (public.host, public.type, public.port) == ("203.0.113.7", "srflx", private.port)
        assert (public.related_address, public.related_port) == ("127.0.0.2", private.port)


@pytest.mark.parametrize("kind", ["stun_server", "turn_server"])
async def test_a_dead_stun_server_delays_once_and_is_then_skipped(kind: str) -> None:
    """This used to delay every viewer by 5 s."""
    sock, address = silent_server()
    now_s = [0.0]
    gatherer = Gatherer(wait_s=0.05, clock=lambda: now_s[0])
    servers = {kind: address, "turn_username": "u", "turn_password": "p"}
    try:
        for at_s, asked in ((0.0, True), (1.0, False), (61.0, True)):
            now_s[0] = at_s
            sock.setblocking(False)
            async with gathered("127.0.0.1", gatherer=gatherer, **servers) as (_, _, candidates):
                assert [c.type for c in candidates] == ["host"]
            heard = False
            while True:
                try:
                    heard = bool(sock.recvfrom(2048)) or heard
                except BlockingIOError:
                    break
            assert heard == asked
    finally:
        sock.close()


async def test_an_address_without_a_route_to_the_stun_server_does_not_lose_the_answer() -> None:
    """One of two addresses gets an answer: its mapping is offered, and the other one is not asked again."""
    loop = asyncio.get_running_loop()

    class Stun(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            asked.append(address[0])
            if address[0] != "127.0.0.1":
                return
            request = aioice.stun.parse_message(data)
            answer = aioice.stun.Message(
                aioice.stun.Method.BINDING, aioice.stun.Class.RESPONSE, request.transaction_id
            )
            answer.attributes["XOR-MAPPED-ADDRESS"] = ("203.0.113.9", 4321)
            self.transport.sendto(bytes(answer), address)

    asked: list[str] = []
    transport, _ = await loop.create_datagram_endpoint(Stun, local_addr=("0.0.0.0", 0))
    server = (HOST, transport.get_extra_info("sockname")[1])
    gatherer = Gatherer(wait_s=1.0)
    for _ in range(2):
        addresses = ("127.0.0.1", "127.0.0.2")
        async with gathered(*addresses, gatherer=gatherer, stun_server=server) as (_, _, candidates):
            assert [(c.host, c.port) for c in candidates if c.type == "srflx"] == [("203.0.113.9", 4321)]
    transport.close()
    assert "127.0.0.2" in asked
    assert asked[-1] == "127.0.0.1"


async def test_datagrams_from_unknown_senders_are_dropped_unless_they_are_stun() -> None:
    """A single forged DTLS alert used to end a handshake, and a flood used to stop the video."""
    async with gathered(HOST) as (connection, source, _):
        heard: list[bytes] = []
        connection.data_received = lambda data, component: heard.append(data)  # type: ignore[method-assign]
        friend = aioice.Candidate("1", 1, "udp", 1, HOST, 5000, "host")
        connection._add_remote_candidate(friend, HOST)
        protocol = connection._protocols[0]
        connection._check_list.append(aioice.ice.CandidatePair(protocol, friend))
        alert = bytes([21, 254, 253])
        source.heard_s = 0.0
        for data in (alert, bytes([22]), bytes([128, 97]), b""):
            protocol.datagram_received(data, (HOST, 6000))
        assert (heard, source.dropped, source.heard_s) == ([], 4, 0.0)
        protocol.datagram_received(alert, (HOST, 5000))
        assert (heard, source.dropped, source.heard_s) == ([alert], 4, 5.0)
        protocol.datagram_received(b"\x00\x01 not quite stun", (HOST, 6000))
        assert source.dropped == 4


async def test_an_off_path_attacker_cannot_end_a_handshake() -> None:
    """The same with two real connections: a third socket sends alerts during their handshake."""
    async with watcher() as viewer, answering(await viewer.offer()) as pc:
        transceiver = pc.getTransceivers()[0]
        connection = ice_connection(transceiver)
        Gatherer().install(connection)
        source = SourceFilter(connection)
        source.install()
        await pc.setLocalDescription(await pc.createAnswer())
        ports = [(c.host, c.port) for p in connection._protocols for c in [p.local_candidate]]
        stop = asyncio.Event()

        async def attack() -> None:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, family=2)
            while not stop.is_set():
                for port in ports:
                    if ":" not in port[0]:
                        transport.sendto(bytes([21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40]), port)
                await asyncio.sleep(0.001)
            transport.close()

        attacker = asyncio.get_running_loop().create_task(attack())
        await asyncio.sleep(0.01)
        await viewer.pc.setRemoteDescription(RTCSessionDescription(pc.localDescription.sdp, "answer"))
        await until(lambda: pc.connectionState == "connected", "connection in spite of the attacker")
        stop.set()
        await attacker
        assert source.dropped > 0
