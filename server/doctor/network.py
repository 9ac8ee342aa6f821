"""Checks what can be reached: ports, UDP on each interface, STUN and TURN servers, the MQTT broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import aioice
from aioice import ice
from aiortc import RTCIceServer
from aiortc.rtcicetransport import connection_kwargs

from server.config import IceServer, ServerConfig
from server.doctor.findings import Finding, bad, good, note
from server.webrtc.adapter.addresses import LOOPBACK, Gatherer

ANSWER_S = 2.0
PATH_BYTES = 1232  # the largest packet that the server sends, without IPv6 and UDP headers


def ports(config: ServerConfig) -> Iterator[Finding]:
    """Check that the HTTP port is free, and the one for health and metrics if there is one."""
    others = "only this machine" if config.loopback else "others"
    yield _free("http", config.host, config.port, "--port", f"; {others} can reach it")
    if config.ops_port is not None:
        yield _free("ops", config.ops_host, config.ops_port, "--ops-port")


def _free(about: str, host: str, port: int, option: str, more: str = "") -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    where = f"{host}, port {port}"
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            mend = f"stop what listens there, or choose another {option}"
            return bad(about, f"{where}: {error.strerror}", mend)
    return good(about, f"{where} is free{more}")


async def udp(config: ServerConfig) -> AsyncIterator[Finding]:
    """Check that each address offered to viewers can send the largest packet, at least to itself."""
    found = config.media_addresses or tuple(ice.get_host_addresses(use_ipv4=True, use_ipv6=True))
    addresses = list(dict.fromkeys(found or LOOPBACK))
    for address in addresses:
        problem = await asyncio.to_thread(_echo, address, config.udp_ports)
        if problem:
            mend = "check the interface, --udp-ports and the local firewall"
            yield bad("udp", f"{address}: {problem}", mend)
        else:
            yield good("udp", f"{address} carries {PATH_BYTES} bytes")
    if config.public_addresses:
        ports = config.udp_ports
        text = f"{', '.join(config.public_addresses)} is sent to viewers"
        if ports is None:
            yield bad("public", text, "add --udp-ports, and forward those ports to this machine")
        else:
            text = f"{text}, UDP ports {ports[0]}-{ports[1]}"
            yield note("public", text, "forward these ports to this machine")
    elif config.loopback:
        text = "only this machine can watch: video is sent from loopback only"
        yield note("reach", text, "for other viewers: --host 0.0.0.0, or --public-address behind a proxy")


def _echo(address: str, ports: tuple[int, int] | None) -> str:
    """Send a packet to ourselves. Returns why it does not arrive; empty if it does."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    first, last = ports or (0, 0)
    problem = "no port is free"
    for number in range(first, min(last, first + 20) + 1):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(ANSWER_S)
            try:
                sock.bind((address, number))
                sock.sendto(bytes(PATH_BYTES), sock.getsockname())
                return "" if len(sock.recv(2048)) == PATH_BYTES else "the packet arrived truncated"
            except OSError as error:
                problem = error.strerror or str(error)
    return problem


async def ice_servers(config: ServerConfig) -> AsyncIterator[Finding]:
    if not config.ice_servers:
        mend = "for viewers behind strict firewalls: --ice-server turn:user:password@host:3478"
        yield note("ice", "no STUN or TURN server: viewers must reach this machine directly by UDP", mend)
    for server in config.ice_servers:
        yield await _ask(server)


async def _ask(server: IceServer) -> Finding:
    """Gather candidates with this server only and look for the address that it returns."""
    kind = "relay" if server.url.startswith("turn") else "srflx"
    about = server.url.partition(":")[0]
    try:
        kwargs: dict[str, Any] = connection_kwargs(
            [RTCIceServer(server.url, server.username, server.credential)]
        )
    except ValueError:
        return bad(about, f"{server.url} is not a server address", "write stun:host:3478 or turn:…@host:3478")
    connection = aioice.Connection(ice_controlling=False, **kwargs)
    Gatherer(wait_s=ANSWER_S).install(cast(Any, connection))
    try:
        await connection.gather_candidates()
        given = next((c for c in connection.local_candidates if c.type == kind), None)
    finally:
        await connection.close()
    if given is None:
        mend = "check its address, its port (UDP 3478?), user and password, and the firewall in between"
        return bad(about, f"{server.url} did not answer in {ANSWER_S:g} s", mend)
    return good(about, f"{server.url} gives {given.host}")


async def broker(config: ServerConfig) -> Finding:
    if config.mqtt == "off":
        return note("mqtt", "off")
    if config.mqtt.startswith("embedded"):
        return good("mqtt", "embedded broker")
    parts = urlsplit(config.mqtt)
    number = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(parts.hostname, number)
    except (OSError, TimeoutError) as error:
        reason = str(error) or f"no answer in {ANSWER_S:g} s"
        return bad("mqtt", f"{parts.hostname}:{number}: {reason}", "start the broker, or use --mqtt embedded")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return good("mqtt", f"{parts.hostname}:{number} answers")
