"""Network namespaces of this machine. Nothing here changes the machine's own network: a browser drops what it
is loading whenever an interface appears or goes anywhere in its own one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

from benchmarks.report import BenchError

FOLDER = "/run/netns"
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def namespace(name: str) -> Iterator[None]:
    """Create it with a working loopback, and remove it with all devices in it. Raises BenchError."""
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "del", name)


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """Sockets, devices, threads and processes that this thread makes inside the context are in the namespace.
    Raises BenchError."""
    with open("/proc/thread-self/ns/net", "rb") as own, open(f"{FOLDER}/{name}", "rb") as other:
        _enter(other.fileno())
        try:
            yield
        finally:
            _enter(own.fileno())


def ip(*arguments: str) -> None:
    """Run `ip`. Raises BenchError with what it said."""
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError("the command `ip` is missing: install iproute2") from None
    if done.returncode:
        raise BenchError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _enter(descriptor: int) -> None:
    # os.setns is new in Python 3.12
    if LIBC.setns(descriptor, CLONE_NEWNET):
        raise BenchError(f"cannot enter a network namespace: {os.strerror(ctypes.get_errno())}")
