"""Hosts as network namespaces: they can be cut off and healed, and nothing of them stays."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import pytest

from benchmarks.network.emulator import linked
from benchmarks.network.hosts import HostSpace, host_network, sweep
from tests.rigs.waiting import LONG_S

pytestmark = pytest.mark.root

SAY = """
import socket, sys
s = socket.create_server((sys.argv[1], 7))
print("up", flush=True)
while True:
    s.accept()
"""


def answers(host: HostSpace, within_s: float = LONG_S) -> bool:
    try:
        socket.create_connection((host.address, 7), within_s).close()
    except OSError:
        return False
    return True


def test_a_host_that_is_cut_off_does_not_answer_and_the_other_does() -> None:
    with host_network(2) as network:
        says = []
        try:
            for host in network.hosts:
                command = host.command(sys.executable, "-c", SAY, host.address)
                says.append(subprocess.Popen(command, stdout=subprocess.PIPE))
                assert says[-1].stdout is not None
                says[-1].stdout.readline()
            one, other = network.hosts
            assert answers(one)
            one.cut()
            assert (answers(one, 1.0), answers(other)) == (False, True)
            one.heal()
            assert answers(one)  # once the bridge has learnt the way again
        finally:
            for process in says:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()


def test_nothing_stays_after_the_context_nor_of_a_process_that_was_killed() -> None:
    def left(pid: int) -> list[str]:
        return [name for name in os.listdir("/run/netns") if name.startswith(f"psi{pid}")]

    with host_network(2):
        assert len(left(os.getpid())) == 3
    assert left(os.getpid()) == []
    code = "import benchmarks.network.hosts as h, os\nwith h.host_network(1): os.kill(os.getpid(), 9)"
    with subprocess.Popen([sys.executable, "-c", code]) as killed:
        killed.wait()
    assert left(killed.pid)
    sweep()
    assert left(killed.pid) == []


@pytest.mark.parametrize("made", [partial(host_network, 2), linked])
def test_the_network_of_the_machine_does_not_change(
    made: Callable[[], AbstractContextManager[object]],
) -> None:
    """Browsers that load a page meanwhile would drop what they load (net::ERR_NETWORK_CHANGED)."""
    with subprocess.Popen(
        ["ip", "-o", "monitor", "link", "address", "route"], stdout=subprocess.PIPE
    ) as monitor:
        assert monitor.stdout is not None
        try:
            own = os.readlink("/proc/thread-self/ns/net")
            with made():
                pass
            assert os.readlink("/proc/thread-self/ns/net") == own
            ready, _, _ = select.select([monitor.stdout], [], [], 0.2)
            assert not ready, os.read(monitor.stdout.fileno(), 4096)
        finally:
            monitor.kill()
