"""uvicorn configured for psistream: connections with limits, no signal handlers, no plain-text responses."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from server.http.connections import Connections
from server.http.limited_protocol import ConnectionLimits

KEEP_ALIVE_S = 5
ACCEPT_AT_ONCE = 16  # connections accepted at once; their data is read before others are accepted
QUEUE = 1024  # connections that the kernel queues until they are accepted


class HttpServer(uvicorn.Server):
    """uvicorn would raise the signal again while the server is still stopping."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """asyncio uses one number for two limits: connections accepted at once, and connections waiting to be
        accepted."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(QUEUE)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def trusted_proxies(environment: Mapping[str, str]) -> list[str]:
    """The proxies whose X-Forwarded-… headers are trusted: $FORWARDED_ALLOW_IPS, otherwise this machine.

    IPv4 addresses are also included in the form of an IPv6 socket (--host ::)."""
    given = environment.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
    names = [name.strip() for name in given.split(",") if name.strip()]
    return [*names, *filter(None, map(_mapped, names))]


def _mapped(name: str) -> str | None:
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        return None
    if network.version == 6:
        return None
    address = f"::ffff:{network.network_address}"
    return address if network.prefixlen == 32 else f"{address}/{96 + network.prefixlen}"


def http_server(app: ASGIApp, log_level: str, limits: ConnectionLimits) -> tuple[HttpServer, Connections]:
    """The server, and its connections, whose `run` must run beside it."""
    settings: dict[str, Any] = {
        "lifespan": "off",  # entered by the caller: a failing start is one line, not a traceback
        "log_level": log_level,
        "log_config": None,  # its own handlers would pass by our format, and by our bounds on what is logged
        "access_log": log_level == "debug",
        "timeout_graceful_shutdown": 1,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "backlog": ACCEPT_AT_ONCE,
        "ws": "none",
        "loop": "asyncio",
        "server_header": False,
        "forwarded_allow_ips": trusted_proxies(os.environ),
    }
    config = uvicorn.Config(app, **settings)
    connections = Connections(limits, config.forwarded_allow_ips)
    config.http = cast(Any, connections.protocol)  # uvicorn calls it for each connection
    return HttpServer(config), connections
