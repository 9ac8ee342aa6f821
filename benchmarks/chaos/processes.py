"""The processes of a small cluster: workers that listen, each on a host of its own if there are any, and a
gateway. Each can be killed, frozen and started again. All end with their starter, even if that is killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from benchmarks.network.hosts import HostNetwork, HostSpace
from benchmarks.network.ports import free_port
from benchmarks.report import BenchError

START_S, STOP_S = 120.0, 10.0
TAIL = 2000  # bytes of a log
WORKER_PORT, DIRECTORY_PORT, GATEWAY_PORT = 7070, 7700, 8080  # in a network of their own
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # loaded before any fork


class ServerProcess:
    """A command of psistream. Its output is kept until it is started again."""

    def __init__(self, name: str, arguments: Sequence[str], host: HostSpace | None = None) -> None:
        self.name, self.host = name, host
        command = [sys.executable, "-m", "server.cli", *arguments]
        self._command = command if host is None else host.command(*command)
        self._output = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed in `close`
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def start(self) -> None:
        assert not self.alive
        self._output.truncate(0)
        self._output.seek(0)
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the benchmark, which ends them
            preexec_fn=partial(_end_with, os.getpid()),
        )

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, and return once it is gone."""
        if self.alive:
            self.signal(signal.SIGKILL)
            assert self._process is not None
            self._process.wait(STOP_S)

    def close(self) -> None:
        """In an orderly way if it can be. Idempotent."""
        if self.alive:
            assert self._process is not None
            self.signal(signal.SIGCONT)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self.kill()
        self._output.close()

    def failure(self) -> BenchError:
        return BenchError(f"{self.name} did not start: {self.output.strip()[-TAIL:]}")


@dataclass(frozen=True)
class SmallCluster:
    """`bases` are the gateways' addresses. `network` is None if all workers are on this machine's loopback;
    without a `directory` the only gateway was told where the workers are."""

    bases: tuple[str, ...]
    gateways: tuple[ServerProcess, ...]
    workers: tuple[ServerProcess, ...]
    network: HostNetwork | None
    directory: ServerProcess | None

    @property
    def base(self) -> str:
        return self.bases[0]

    @property
    def gateway(self) -> ServerProcess:
        return self.gateways[0]

    def wait_ready(self) -> None:
        """Until all gateways say that all workers run. Raises BenchError."""
        needed = [*self.gateways, *self.workers]
        wait_until(lambda: all(self._states(base) == self._well for base in self.bases), needed)

    @property
    def _well(self) -> dict[str, str]:
        return {worker.name: "running" for worker in self.workers}

    def _states(self, base: str) -> dict[str, str]:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            told = httpx.get(f"{base}readyz", timeout=2.0, trust_env=False, verify=False).json()
            return dict(told.get("workers", {}))
        return {}


@contextlib.contextmanager
def small_cluster(
    workers: int,
    options: Sequence[str] = (),
    network: HostNetwork | None = None,
    *,
    gateways: int = 1,
    directory: bool = False,
) -> Iterator[SmallCluster]:
    """`options` are those of each `psistream worker`. With a network, worker n listens on host n. Several
    gateways need a directory. Raises BenchError."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="psistream-")))
        key = folder / "worker.key"
        key.touch(0o600)
        key.write_text(secrets.token_hex(16), encoding="utf-8")
        home = "127.0.0.1" if network is None else network.address
        joins = f"tcp://{home}:{free_port() if network is None else DIRECTORY_PORT}"
        knows: list[str] = []  # the gateways' options
        found = []
        for number in range(workers):
            host = None if network is None else network.hosts[number]
            where = f"127.0.0.1:{free_port()}" if host is None else f"{host.address}:{WORKER_PORT}"
            name, listen = f"w{number + 1}", ["worker", "--listen", where, "--key-file", str(key), *options]
            listen += ["--join", joins, "--name", name] if directory else []
            found.append(ServerProcess(name, listen, host))
            knows += [] if directory else ["--worker", f"tcp://{where}"]
        knows += ["--join", joins, "--join-key-file"] if directory else ["--worker-key-file"]
        bases, doors = [], []
        for number in range(gateways):
            port, name = free_port() if network is None else GATEWAY_PORT + number, f"g{number + 1}"
            serve = ["serve", "--mqtt", "off", "--port", str(port), *knows, str(key)]
            base = f"http://127.0.0.1:{port}"  # gateways share a host, also where the directory is elsewhere
            joined = ["--name", name, "--advertise", base] if directory else []
            doors.append(ServerProcess(name, [*serve, *joined]))
            bases.append(f"{base}/")
        up = ["cluster", "up", "--listen", joins.removeprefix("tcp://"), "--key-file", str(key)]
        finds = ServerProcess("directory", up) if directory else None
        cluster = SmallCluster(tuple(bases), tuple(doors), tuple(found), network, finds)
        for process in (*([finds] if finds else []), *found, *doors):
            stack.callback(process.close)
        for process in (*([finds] if finds else []), *found):
            process.start()
        wait_until(lambda: all("worker: " in each.output for each in found), found)
        for process in doors:
            process.start()
        cluster.wait_ready()
        yield cluster


def wait_until(true: Callable[[], bool], processes: Sequence[ServerProcess]) -> None:
    """Raises BenchError if one of the processes ends meanwhile, or after START_S."""
    until_s = time.monotonic() + START_S
    while not true():
        for process in processes:
            if not process.alive or time.monotonic() > until_s:
                raise process.failure()
        time.sleep(0.05)


def _end_with(parent: int) -> None:
    """In the child: it is killed when its parent is gone."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
