"""Hosts on one machine that can be cut off and switched off: each has its own network, processes, folder for
temporary files of Ray, and name. Without the second, processes of a killed one would live on; without the
third, all would share Ray's notes about "the" cluster of this machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.network.hosts import HostSpace, host_network

MAKE = """
mount -t tmpfs tmpfs "$1" && mount -t tmpfs tmpfs /dev/shm && hostname "$2" || exit 1
ip route add default via "$3"
echo ready
exec sleep infinity
"""


class Machine:
    def __init__(self, name: str, space: HostSpace, router: str, folder: Path, logs: Path) -> None:
        self.name, self.address, self._space = name, space.address, space
        self._folder, self._logs = folder, logs
        inside = ["sh", "-c", MAKE, "sh", str(folder), name, router]
        apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts", *inside]
        self._holder = subprocess.Popen(space.command(*apart), stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        with self._holder.stdout as lines:
            assert lines.readline() == "ready\n", f"{name} could not be made"
        holder = self._holder.pid
        self._init = int(Path(f"/proc/{holder}/task/{holder}/children").read_text().split()[0])
        self._apart = os.readlink(f"/proc/{self._init}/ns/pid")
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self, what: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Run this on the host. `what` names its log."""
        inside = ["nsenter", "-t", str(self._init), "--net", "--pid", "--mount", "--uts", *command]
        with (self._logs / f"{self.name}-{what}.log").open("ab") as log:
            self._started.append(
                subprocess.Popen(
                    inside,
                    env={**os.environ, "RAY_TMPDIR": str(self._folder), **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
        return self._started[-1]

    def log(self, what: str) -> str:
        """Empty before it was started."""
        path = self._logs / f"{self.name}-{what}.log"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def pids(self, *words: str) -> list[int]:
        """The host's processes with all these words on their command lines, other than its first one."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns" / "pid") == self._apart and int(entry.name) != self._init:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if line and all(word in line for word in words):
                        found.append(int(entry.name))
        return found

    def kill(self, *words: str) -> None:
        """SIGKILL for all of them, of which there must be one."""
        pids = self.pids(*words)
        assert pids, f"no process of {self.name} has {words} on its command line"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut(self) -> None:
        self._space.cut()

    def heal(self) -> None:
        self._space.heal()

    def off(self) -> None:
        """All its processes end at once. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._init, signal.SIGKILL)
        self._holder.wait()
        for each in self._started:
            each.wait()


@contextlib.contextmanager
def machines(names: str, logs: Path) -> Iterator[list[Machine]]:
    """A host for each letter. Needs root."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: paths of sockets are
    with host_network(len(names)) as network, contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = []
        for name, space in zip(names, network.hosts, strict=True):
            machine = Machine(name, space, network.address, folder, logs)
            stack.callback(machine.off)
            made.append(machine)
        yield made
