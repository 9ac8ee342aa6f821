"""An embedded MQTT broker: this machine's mosquitto as a child process, with a generated configuration.

It speaks MQTT 3.1.1, 5 and WebSockets, listens on loopback by default, and has limits. Nothing is stored
across restarts. If it dies it is restarted on the same ports. It ends with its parent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.errors import Unavailable
from server.config import MqttListen
from server.control.mqtt.embedded.configuration import Ports, write_configuration
from server.control.mqtt.topics import Topics
from server.tasks import log_failure

log = logging.getLogger(__name__)

PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 2.0
RESTART_S = 0.5
ATTEMPTS = 5  # another program may take a free port before mosquitto opens it
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01?"  # MQTT 3.1.1


def find_mosquitto() -> str | None:
    """The path of the program, or None."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(PLACES))


def version_of(program: str) -> str:
    """Its version, such as 2.0.11; empty if unknown."""
    try:
        told = subprocess.run([program, "-h"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"version (\d[\w.]*)", told)
    return found[1] if found else ""


class MosquittoBroker:
    """`async with MosquittoBroker(program) as broker`. `url` is for the server itself, with credentials;
    `shown` and `websocket_url` are for clients, without. With `private` clients cannot read the commands on
    these topics. Raises Unavailable when mosquitto does not start."""

    def __init__(self, program: str, listen: MqttListen | None = None, private: Topics | None = None) -> None:
        self._private = private
        self._program = program
        self._listen = listen or MqttListen()
        self._own = f"psistream-{secrets.token_hex(4)}", secrets.token_hex(16)
        self._folder = ""
        self._port = self._inner_port = self._websocket_port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._said: asyncio.Task[None] | None = None
        self._told = ""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def url(self) -> str:
        user, password = self._own
        return f"mqtt://{user}:{password}@127.0.0.1:{self._inner_port}"

    @property
    def shown(self) -> str:
        return f"{'mqtts' if self._listen.tls else 'mqtt'}://{self._reached}:{self._port}"

    @property
    def websocket_url(self) -> str | None:
        if self._listen.websocket_port is None:
            return None
        return f"{'wss' if self._listen.tls else 'ws'}://{self._reached}:{self._websocket_port}"

    async def __aenter__(self) -> Self:
        self._folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="psistream-mqtt-")
        try:
            await self._start_somewhere()
        except BaseException:
            await self._close()
            raise
        for wanted, got in (
            (self._listen.port, self._port),
            (self._listen.websocket_port, self._websocket_port),
        ):
            if wanted not in (None, 0, got):
                log.warning("port %d is occupied: the MQTT broker listens on %d", wanted, got)
        self._keeper = asyncio.create_task(self._keep_alive(), name="mqtt-mosquitto")
        self._keeper.add_done_callback(log_failure)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    @property
    def _reached(self) -> str:
        host = self._listen.host
        if host in ("0.0.0.0", "::", "::1"):
            return "localhost"
        return f"[{host}]" if ":" in host else host

    # ---- the child ----

    async def _start_somewhere(self) -> None:
        taken: set[int] = set()
        for _ in range(ATTEMPTS):
            listen = self._listen
            self._port = _free_port(listen.host, listen.port, taken)
            self._inner_port = _free_port("127.0.0.1", 0, {self._port})
            if listen.websocket_port is not None:
                busy = {*taken, self._port, self._inner_port}
                self._websocket_port = _free_port(listen.host, listen.websocket_port, busy)
            ports = Ports(self._port, self._inner_port, self._websocket_port)
            await asyncio.to_thread(
                write_configuration, Path(self._folder), listen, ports, self._own, self._private
            )
            if await self._start():
                return
            if "in use" not in self._told:
                break
            taken |= {self._port, self._websocket_port}
        raise Unavailable(
            f"mosquitto does not start: {self._told or 'it says nothing'}; use --mqtt off or another broker",
            field="mqtt",
        )

    async def _start(self) -> bool:
        """Start the process. Returns whether it runs and listens. Its output goes to the log, the last line
        also to `_told`."""
        command = [self._program, "-c", f"{self._folder}/mosquitto.conf"]
        setpriv = shutil.which("setpriv")
        if setpriv is not None:  # otherwise it would outlive a server that is killed, and occupy its ports
            command = [setpriv, "--pdeathsig", "TERM", *command]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must not end it before the server's farewell
        )
        said = self._said = asyncio.create_task(self._read(self._process), name="mqtt-mosquitto-log")
        said.add_done_callback(log_failure)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await self._listening():
                    if said.done():
                        return False
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self._told = f"it does not listen after {START_TIMEOUT_S:.0f} s"
            return False
        return not said.done()

    async def _listening(self) -> bool:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._listen.host, self._listen.host)
        places = [("127.0.0.1", self._inner_port), (host, self._port), (host, self._websocket_port)]
        listens = all([await _listens(host, port) for host, port in places if port])
        return listens and await _answers(self._inner_port)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            told = line.decode("utf-8", "replace").strip()
            self._told = re.sub(r"^\d+: ", "", told)
            log.debug("mosquitto: %s", self._told)
        await process.wait()

    async def _keep_alive(self) -> None:
        while True:
            assert self._process is not None
            status = await self._process.wait()
            log.warning("the MQTT broker ended (exit status %d): starting it again", status)
            await asyncio.sleep(RESTART_S)
            with suppress(OSError):
                await self._start()

    async def _close(self) -> None:
        """Idempotent."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._said is not None:
            await asyncio.wait([self._said])
        if self._folder:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


def _free_port(host: str, wanted: int, taken: set[int]) -> int:
    """`wanted` if it is free, otherwise any. Raises Unavailable for another machine's address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (wanted, 0, 0, 0):
        if port in taken:
            continue
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if port == 0:
                    raise Unavailable(
                        f"the MQTT broker cannot listen on {host}: {error.strerror}", field="mqtt"
                    ) from None
                continue
            found = int(probe.getsockname()[1])
        if found not in taken:
            return found
    raise Unavailable(f"the MQTT broker finds no free port on {host}", field="mqtt")


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _answers(port: int) -> bool:
    """Whether it processes messages. It listens before it has loaded its certificates, and may fail on
    them."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(CONNECT)
            answer = await reader.read(4)  # CONNACK: not authorized
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return bool(answer)
