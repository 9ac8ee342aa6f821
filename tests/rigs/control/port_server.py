"""A server of Debian's as a process, on a free port that it keeps when it is killed and started again."""

from __future__ import annotations

import socket
import subprocess
import time
from types import TracebackType
from typing import Self

from benchmarks.network.ports import free_port
from tests.rigs.waiting import LONG_S


class PortServer:
    """`command` is set by the kind of server, before it is started."""

    command: list[str]

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        end_s = time.monotonic() + LONG_S
        while time.monotonic() < end_s and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError(f"{self.command[0]} did not start on port {self.port}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
