"""Hosts on one machine: network namespaces on a bridge, each of which can be cut off. Needs root and Linux.

The bridge is in a namespace too, which the calling thread enters: what it starts there reaches every host and
is reached by it, and has a loopback of its own. A host that is cut off is silent: its connections are not
closed, as with a pulled cable. The names contain the number of the process that made them; what a killed one
has left behind is removed by the next.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.network.namespaces import FOLDER, entered, ip, namespace
from benchmarks.report import BenchError

MOST = 16
SUBNET = "198.18.0"  # kept for benchmarks of networks (RFC 2544)
NAME = re.compile(r"psi(\d+)(b|h\d+)")


@dataclass(frozen=True)
class HostSpace:
    """A host's address and namespace, and the bridge's end of its link."""

    address: str
    space: str
    bridge: str  # the namespace with the bridge
    device: str

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs this on the host, as the same process."""
        return ["ip", "netns", "exec", self.space, *arguments]

    def cut(self) -> None:
        ip("-n", self.bridge, "link", "set", self.device, "down")

    def heal(self) -> None:
        ip("-n", self.bridge, "link", "set", self.device, "up")


@dataclass(frozen=True)
class HostNetwork:
    """`address` is the calling thread's, on the bridge."""

    address: str
    hosts: tuple[HostSpace, ...]


@contextlib.contextmanager
def host_network(count: int) -> Iterator[HostNetwork]:
    """Processes on the hosts must have ended before the context does. Raises BenchError if this user or
    machine cannot."""
    if os.geteuid() != 0:
        raise BenchError("hosts of their own are network namespaces, which need root: try sudo, on Linux")
    assert 1 <= count <= MOST
    sweep()
    own = f"psi{os.getpid()}"
    bridge = f"{own}b"
    with contextlib.ExitStack() as stack:
        stack.enter_context(namespace(bridge))
        stack.enter_context(entered(bridge))
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"{SUBNET}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        hosts = []
        for number in range(count):
            name = f"{own}h{number}"
            host = HostSpace(f"{SUBNET}.{number + 2}", name, bridge, name)
            stack.enter_context(namespace(host.space))
            ip("link", "add", host.device, "type", "veth", "peer", "name", "eth0", "netns", host.space)
            ip("link", "set", host.device, "master", bridge, "up")
            ip("-n", host.space, "addr", "add", f"{host.address}/24", "dev", "eth0")
            ip("-n", host.space, "link", "set", "eth0", "up")
            hosts.append(host)
        yield HostNetwork(f"{SUBNET}.1", tuple(hosts))


def sweep() -> None:
    """Remove what processes that are gone have left."""
    for name in os.listdir(FOLDER) if os.path.isdir(FOLDER) else []:
        found = NAME.fullmatch(name)
        if found and not Path(f"/proc/{found[1]}").exists():
            with contextlib.suppress(BenchError):  # somebody else was faster
                ip("netns", "del", name)
