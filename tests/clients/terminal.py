"""`psistream play` in a terminal, with a broker and a session to steer."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.embedded.builtin import EmbeddedBroker
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.waiting import LONG_S, until


class Terminal:
    """`psistream play` in a pseudo-terminal of 80x24."""

    def __init__(self, *args: str) -> None:
        self._args = args
        self.output = bytearray()
        self.errors = bytearray()

    async def __aenter__(self) -> Terminal:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._before = termios.tcgetattr(self._slave)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.cli",
            "play",
            *self._args,
            stdin=self._slave,
            stdout=self._slave,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        )
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    def _read(self) -> None:
        with suppress(OSError):
            self.output += os.read(self._master, 65536)

    def type(self, data: bytes | str) -> None:
        os.write(self._master, data.encode() if isinstance(data, str) else data)

    async def shows(self, text: str) -> None:
        await until(
            lambda: text.encode() in self.output,
            f"{text!r} on the screen, but {bytes(self.output[-2000:])!r}",
        )

    async def ends(self) -> int:
        assert self.process.stderr is not None
        async with asyncio.timeout(LONG_S):
            self.errors += await self.process.stderr.read()
            status = await self.process.wait()
        self._read_rest()
        return status

    def _read_rest(self) -> None:
        os.set_blocking(self._master, False)
        self._read()

    @property
    def restored(self) -> bool:
        """Check that the terminal's settings are restored, and that the alternate screen and the hidden
        cursor are undone."""
        again = termios.tcgetattr(self._slave) == self._before
        undone = self.output.rfind(b"\x1b[?1049l") > self.output.rfind(b"\x1b[?1049h")
        return again and undone and self.output.rfind(b"\x1b[?25h") > self.output.rfind(b"\x1b[?25l")


@asynccontextmanager
async def playing(*args: str) -> AsyncIterator[tuple[FakeSteering, EmbeddedBroker, Terminal]]:
    steering = FakeSteering("main", "other")
    async with EmbeddedBroker(0) as broker, MqttBridge(steering, broker.url) as bridge:
        assert await bridge.wait_connected(30)
        async with Terminal("--mqtt", broker.url, *args) as terminal:
            await terminal.shows("connected")
            yield steering, broker, terminal
