"""Ports of this machine for servers that are told where to listen."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A TCP port of loopback on which nobody listens. While this process lives it is given to nobody else: a
    socket stays bound to it, beside which Linux lets those listen that set SO_REUSEADDR, as servers do."""
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    port = int(keeper.getsockname()[1])
    keeper.detach()  # open until the process ends
    return port
