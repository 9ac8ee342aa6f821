"""Ports that servers are told: nobody else is given them, whenever the server starts."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from benchmarks.network.namespaces import entered, namespace
from benchmarks.network.ports import free_port


def test_a_server_can_listen_again_and_again_where_otherwise_nobody_does() -> None:
    port = free_port()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with (
            socket.create_server(("127.0.0.1", port)) as server,
            socket.create_connection(("127.0.0.1", port)),
        ):
            server.accept()[0].close()


@pytest.mark.root
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_nobody_else_is_given_it(host: str) -> None:
    """With two ports in the network, somebody who is given any one gets the other one, or none."""
    name = f"psiports{secrets.token_hex(2)}"
    with namespace(name), entered(name):
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40001")
        ours = free_port()
        with socket.create_server((host, 0)) as other, socket.socket() as third:
            assert {ours, other.getsockname()[1]} == {40000, 40001}
            third.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                third.bind((host, 0))
