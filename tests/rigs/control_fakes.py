"""A fake gateway, real MQTT brokers and an onlooker, for the tests of server/control and clients/play."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiomqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.properties import Properties

from engine.errors import UnknownSession
from engine.types import Action, Control, Pause, Prompt, Receipt, Resume, SessionClosed, SessionInfo, Stall
from server.control.base import Listener, SessionEvent
from server.worker.messages import SegmentStats
from tests.rigs.skips import need
from tests.rigs.waiting import LONG_S
from tests.rigs.waiting import until as until

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def session_info(
    id_: str = "main", prompt: str = "a red robot walks", buffering: Stall | None = None
) -> SessionInfo:
    return SessionInfo(
        id=id_,
        prompt=prompt,
        seed=7,
        paused=False,
        action=None,
        epoch=0,
        segment=3,
        frame=24,
        state_bytes=1000,
        buffering=buffering,
    )


def segment_stats(session: str = "main", segment: int = 4, rate: float = 1.0) -> SegmentStats:
    return SegmentStats(
        session=session,
        epoch=0,
        segment=segment,
        frame=segment * 8,
        timings_ms={"denoise": 120.0, "total": 200.0},
        lead_ms=90.0,
        late_total=0,
        dropped_frames_total=0,
        state_bytes=1000,
        encode_ms=6.0,
        speed=2.5 * rate,
        rate=rate,
    )


class FakeSteering:
    """Steering that remembers what it was told; with `applies` it applies each control a turn later."""

    def __init__(self, *sessions: str, applies: bool = True) -> None:
        self.infos = {name: session_info(name) for name in sessions or ("main",)}
        self.controls: list[tuple[str, Control]] = []
        self.applies = applies
        self.error: Exception | None = None
        self._receipts: dict[tuple[str, str], Receipt] = {}
        self._listeners: list[Listener] = []

    def session_ids(self) -> list[str]:
        return list(self.infos)

    def info(self, session_id: str) -> SessionInfo:
        if session_id not in self.infos:
            raise UnknownSession(f"no session is called {session_id}: see GET /v1/sessions")
        return self.infos[session_id]

    def submit(self, session_id: str, control: Control) -> Receipt:
        self.info(session_id)
        if self.error is not None:
            raise self.error
        key = (session_id, control.id)
        if key not in self._receipts:
            self._receipts[key] = Receipt(session_id, control.id, "received")
            self.controls.append((session_id, control))
            if self.applies:
                asyncio.get_running_loop().call_soon(self.apply, session_id, control)
        return self._receipts[key]

    def apply(self, session: str, control: Control) -> None:
        info = replace(self.infos[session], segment=self.infos[session].segment + 1)
        match control.body:
            case Prompt(text=text):
                info = replace(info, prompt=str(text))
            case Action(action=action):
                info = replace(info, action=action)
            case Pause() | Resume():
                info = replace(info, paused=isinstance(control.body, Pause))
        self.infos[session] = info
        receipt = Receipt(session, control.id, "applied", segment=info.segment, frame=info.segment * 8)
        self._receipts[(session, control.id)] = receipt
        self.emit(receipt)
        self.emit(info)

    def close(self, session: str) -> None:
        del self.infos[session]
        self.emit(SessionClosed(session, "closed", "the session was closed"))

    def listen(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def emit(self, event: SessionEvent) -> None:
        for listener in list(self._listeners):
            listener(event)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """Debian's mosquitto with its own configuration on a free port, which it keeps over kill and start."""

    def __init__(self, folder: Path, *config: str, anonymous: bool = True) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {str(anonymous).lower()}", *config]
        self._config.write_text("\n".join([*lines, "max_packet_size 2000000", "log_type none", ""]))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        end_s = time.monotonic() + LONG_S
        while time.monotonic() < end_s and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError(f"mosquitto did not start on port {self.port}")

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


def mosquitto_hash(password: str) -> str:
    """As mosquitto_passwd writes it: salted PBKDF2 with SHA-512."""
    salt, rounds = os.urandom(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for path in paths:
        path.chmod(0o644)
    return paths


class Relay:
    """TCP to a local port, which can be cut (connections end, new ones too) and frozen (nothing moves)."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = True
        self._moving = asyncio.Event()
        self._moving.set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self._open = False
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        self._moving.clear()

    def heal(self) -> None:
        self._open = True
        self._moving.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._open:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
                await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(65536):
                await self._moving.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def need_mosquitto() -> None:
    need(os.path.exists(MOSQUITTO), "mosquitto")


def need_mosquitto_pub() -> None:
    need(shutil.which("mosquitto_pub") is not None, "mosquitto-clients")


class Onlooker:
    """A client that hears everything under psistream/ and publishes what a test tells it to."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.messages: list[aiomqtt.Message] = []

    def heard(self, suffix: str) -> list[dict[str, Any]]:
        """The JSON messages so far whose topic ends so; {} for an empty payload."""
        return [json.loads(bytes(m.payload) or b"{}") for m in self.messages if str(m.topic).endswith(suffix)]

    async def say(
        self,
        topic: str,
        payload: bytes | str = b"",
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        await self.client.publish(topic, payload, qos=1, retain=retain, properties=properties)

    async def command(self, verb: str, payload: bytes | str = b"", session: str = "main") -> None:
        await self.say(f"psistream/v1/session/{session}/cmd/{verb}", payload)

    async def answer(self, status: str, suffix: str = "/ack/all") -> dict[str, Any]:
        """Wait for the newest answer of this status."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [m for m in self.heard(suffix) if m.get("status") == status]
            return bool(found)

        await until(there, f"{status} on {suffix}")
        return found[-1]


@asynccontextmanager
async def onlooker(url: str, *, v5: bool = False, **options: Any) -> AsyncIterator[Onlooker]:
    protocol = aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311
    port = int(url.rsplit(":", 1)[1])
    async with aiomqtt.Client("127.0.0.1", port, protocol=protocol, timeout=5, **options) as client:
        looker = Onlooker(client)
        await client.subscribe("psistream/#", qos=1)

        async def listen() -> None:
            async for message in client.messages:
                looker.messages.append(message)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(listen())
            try:
                yield looker
            finally:
                task.cancel()
