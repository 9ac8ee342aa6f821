"""Hooks into aioice 0.13 for addresses, ports and the allowed sources of datagrams, with one test each."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from aioice import Candidate, ice
from aioice.candidate import candidate_foundation, candidate_priority
from aiortc import RTCRtpTransceiver

LOOPBACK = ("127.0.0.1", "::1")
STUN_FIRST_BYTE_MAX = 3  # RFC 7983
SERVER_WAIT_S = 0.3  # an answer waits at most this long for STUN and TURN servers
SERVER_REST_S = 60.0  # a server that did not answer is skipped for this long
PORT_TRIES = 16
RECEIVE_BUFFER = 1 << 20


class _Connection(Protocol):
    """The parts of aioice.Connection that are used here."""

    _check_list: list[ice.CandidatePair]
    _closing: bool
    _nominated: dict[int, ice.CandidatePair]
    _protocols: list[ice.StunProtocol]
    _transport_policy: ice.TransportPolicy
    stun_server: tuple[str, int] | None
    turn_server: tuple[str, int] | None
    turn_username: str | None
    turn_password: str | None
    turn_ssl: bool
    turn_transport: str
    get_component_candidates: Callable[..., Awaitable[list[Any]]]


def ice_connection(transceiver: RTCRtpTransceiver) -> _Connection:
    """`RTCIceTransport._connection`, behind the transport that all parts of the connection share."""
    return cast(_Connection, transceiver.receiver.transport.transport._connection)


@dataclass
class Gatherer:
    """The addresses at which viewers can reach this server. One instance serves all connections, since it
    remembers which STUN and TURN servers did not answer.

    `only` are the addresses to use, None for those of all interfaces; `ports` is an inclusive range, None
    for any; `public` are addresses that a router or container host forwards to this machine,
    keeping the port."""

    only: tuple[str, ...] | None = None
    ports: tuple[int, int] | None = None
    public: tuple[str, ...] = ()
    wait_s: float = SERVER_WAIT_S
    clock: Callable[[], float] = time.monotonic
    _resting: dict[tuple[object, ...], float] = field(default_factory=dict)  # until when

    def install(self, connection: _Connection) -> None:
        """Call it before candidates are gathered.

        aioice leaves loopback out, takes any port and waits 5 s for servers that are down. Replaces
        `Connection.get_component_candidates`, which is where aioice opens its sockets, with the same calls to
        `ice.server_reflexive_candidate` and `ice.relayed_candidate`. Reads `Connection._closing`: aioice
        closes the sockets that it has, so one that opens while the connection closes is closed here."""

        async def gather(component: int, addresses: list[str]) -> list[Candidate]:
            return await self._gather(connection, component, addresses)

        connection.get_component_candidates = gather

    async def _gather(self, connection: _Connection, component: int, addresses: list[str]) -> list[Candidate]:
        if connection._transport_policy == ice.TransportPolicy.RELAY:
            hosts: list[ice.StunProtocol] = []
        else:
            hosts = await self._hosts(connection, component, addresses)
        candidates = [protocol.local_candidate for protocol in hosts]
        candidates += [c for protocol in hosts for c in self._public(protocol.local_candidate)]
        tasks = self._queries(connection, component, hosts)
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=self.wait_s)
            for key, task in tasks.items():
                if not task.done() or task.exception() is not None:
                    if not connection._closing:
                        self._resting[key] = self.clock() + SERVER_REST_S
                    continue
                candidate, relay = task.result()
                if relay is None or await _kept(connection, relay):
                    candidates.append(candidate)
        finally:
            for task in tasks.values():
                task.cancel()
        return candidates

    async def _hosts(
        self, connection: _Connection, component: int, addresses: Sequence[str]
    ) -> list[ice.StunProtocol]:
        opened: list[ice.StunProtocol] = []
        for address in self.only or [*addresses, *(() if addresses else LOOPBACK)]:
            if connection._closing:
                break
            protocol = await self._open(connection, address)
            if protocol is None or not await _kept(connection, protocol):
                continue
            host, port = protocol.transport.get_extra_info("sockname")[:2]
            protocol.local_candidate = Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host"),
                host=host,
                port=port,
                type="host",
            )
            opened.append(protocol)
        return opened

    async def _open(self, connection: _Connection, address: str) -> ice.StunProtocol | None:
        """A socket on this address, or None if it is unavailable. Raises OSError if all ports are taken."""
        loop = asyncio.get_running_loop()
        first, last = self.ports or (0, 0)
        tried = random.sample(range(first, last + 1), min(PORT_TRIES, last - first + 1))
        for count, port in enumerate(tried, 1):
            try:
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: ice.StunProtocol(cast(ice.Connection, connection)), local_addr=(address, port)
                )
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    return None  # an interface that is gone, or an IPv6 address that is not ready
                if count == len(tried):
                    raise
                continue
            if (sock := transport.get_extra_info("socket")) is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            return protocol
        return None

    def _public(self, host: Candidate) -> list[Candidate]:
        version = ipaddress.ip_address(host.host).version
        return [
            Candidate(
                foundation=candidate_foundation("srflx", "udp", address),
                component=host.component,
                transport="udp",
                priority=candidate_priority(host.component, "srflx"),
                host=address,
                port=host.port,
                type="srflx",
                related_address=host.host,
                related_port=host.port,
            )
            for address in self.public
            if ipaddress.ip_address(address).version == version
        ]

    def _queries(
        self, connection: _Connection, component: int, hosts: list[ice.StunProtocol]
    ) -> dict[tuple[object, ...], asyncio.Task[Any]]:
        """Queries to the STUN server, from each address that has not failed with it before, and to TURN."""
        tasks: dict[tuple[object, ...], asyncio.Task[Any]] = {}
        spawn, now_s = asyncio.get_running_loop().create_task, self.clock()
        if (stun := connection.stun_server) is not None:
            for protocol in hosts:
                address = protocol.local_candidate.host
                if ":" not in address and self._resting.get((stun, address), 0.0) <= now_s:
                    tasks[stun, address] = spawn(
                        ice.server_reflexive_candidate(protocol, stun), name="ice-stun"
                    )
        if (turn := connection.turn_server) is not None and self._resting.get((turn,), 0.0) <= now_s:
            tasks[(turn,)] = spawn(
                ice.relayed_candidate(
                    component=component,
                    hide_related_address=connection._transport_policy == ice.TransportPolicy.RELAY,
                    protocol_factory=lambda: ice.StunProtocol(cast(ice.Connection, connection)),
                    turn_server=turn,
                    turn_username=connection.turn_username,
                    turn_password=connection.turn_password,
                    turn_ssl=connection.turn_ssl,
                    turn_transport=connection.turn_transport,
                ),
                name="ice-turn",
            )
        return tasks


async def _kept(connection: _Connection, protocol: ice.StunProtocol) -> bool:
    """Add a socket that is closed with the connection. False if it is closing; the socket is then closed."""
    if connection._closing:
        await protocol.close()
        return False
    connection._protocols.append(protocol)
    return True


class SourceFilter:
    """Drops datagrams from addresses that this connection has not checked, and remembers when the last one
    from a checked address arrived.

    `dropped` counts. Addresses of all pairs pass, not only of the chosen one: Safari sends from several. STUN
    always passes, since its own integrity check authenticates it."""

    def __init__(self, connection: _Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection, self._clock = connection, clock
        self.on_heard: Callable[[], None] = lambda: None
        self.heard_s = clock()
        self.dropped = 0

    def install(self) -> None:
        """Call it after `Gatherer.install`, before candidates are gathered. aioice passes every datagram
        other than STUN to DTLS and RTP, whoever sent it: one forged alert ends a handshake. Wraps
        `StunProtocol.datagram_received` of each socket once `Connection.get_component_candidates` has made
        it. Reads `Connection._check_list` and `._nominated`."""
        gather = self._connection.get_component_candidates

        async def gather_guarded(*args: Any, **kwargs: Any) -> list[Any]:
            candidates = await gather(*args, **kwargs)
            for protocol in self._connection._protocols:
                self._guard(protocol)
            return candidates

        self._connection.get_component_candidates = gather_guarded

    def _guard(self, protocol: ice.StunProtocol) -> None:
        receive = protocol.datagram_received

        def guarded(data: bytes | str, addr: tuple[Any, ...]) -> None:
            known = self.knows((addr[0], addr[1]))
            if known:
                self.heard_s = self._clock()
                self.on_heard()
            elif not data or cast(bytes, data)[0] > STUN_FIRST_BYTE_MAX:
                self.dropped += 1
                return
            receive(data, addr)

        protocol.datagram_received = guarded  # type: ignore[method-assign]

    def knows(self, address: tuple[str, int]) -> bool:
        """Includes the chosen pair, which may be from before an ICE restart."""
        pairs = [*self._connection._check_list, *self._connection._nominated.values()]
        return any(pair.remote_addr == address for pair in pairs)
