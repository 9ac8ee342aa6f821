"""The MQTT side of the terminal client: sends one session's commands, receives its answers, state and events.

Speaks the wire protocol of docs/protocol.md over MQTT 3.1.1 and reconnects by itself. Knows no keys and no
screen.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomqtt

from clients.errors import BadInput, PlayError

ROOT = "psistream/v1"
CONNECT_TIMEOUT_S = 5.0
STATE_TIMEOUT_S = 1.0
RETRY_S = 1.0
CANCEL_AGAIN_S = 0.2
QUEUE = 64


@dataclass(frozen=True)
class Broker:
    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The URL without user and password."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> Broker:
        """Raises BadInput."""
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host, port = "", None, None
        if scheme not in ("mqtt", "mqtts") or not host:
            raise BadInput("--mqtt must look like mqtt://127.0.0.1:1883 or mqtts://user:password@host:8883")
        username = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        return cls(host, port or (8883 if scheme == "mqtts" else 1883), scheme == "mqtts", username, password)

    def client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self.host,
            self.port,
            username=self.username,
            password=self.password,
            tls_params=aiomqtt.TLSParameters() if self.tls else None,
            timeout=CONNECT_TIMEOUT_S,
            keepalive=15,
            max_queued_incoming_messages=256,
        )


def check_session(session: str) -> None:
    """An id is part of topics and URLs. Raises BadInput."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", session) is None:
        raise BadInput("--session must be a session's id: letters, digits, dots, dashes, underscores")


async def broker_of(server: str, session: str) -> str:
    """The MQTT URL that a server gives for a session. Raises PlayError."""
    import httpx  # slow to import, and not needed with --mqtt

    try:
        async with httpx.AsyncClient(timeout=CONNECT_TIMEOUT_S) as client:
            answer = await client.get(f"{server.rstrip('/')}/v1/sessions/{session}")
            content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise PlayError(f"no psistream server at {server} ({error or type(error).__name__})") from None
    if answer.status_code == 404:
        raise PlayError(f"no session {session} at {server}")
    if answer.status_code != 200 or not isinstance(content, dict) or "mqtt" not in content:
        raise PlayError(f"{server} does not name its broker (HTTP {answer.status_code}): name it with --mqtt")
    if not isinstance(content["mqtt"], dict):
        raise PlayError(f"{server} runs without MQTT: start it with --mqtt embedded")
    return str(content["mqtt"].get("url"))


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they end. Python 3.11's wait_for, which publishing uses, may swallow a cancellation
    that arrives together with its result. Exceptions of the tasks are dropped."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    for task in tasks:
        task.cancelled() or task.exception()


class Wire:
    """`hear(kind, message)` gets "ack", "state", "event" and "status"; `online(bool)` gets the connection's
    state.

    Commands queue while the broker is away; when the queue is full, the oldest is dropped."""

    def __init__(
        self,
        broker: Broker,
        session: str,
        hear: Callable[[str, dict[str, Any]], None],
        online: Callable[[bool], None],
    ) -> None:
        self.name = f"play-{secrets.token_hex(3)}"
        self._broker = broker
        self._session = session
        self._root = f"{ROOT}/session/{session}"
        self._hear = hear
        self._online = online
        self._outgoing: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(QUEUE)
        self._there = asyncio.Event()
        self._others: set[str] = set()
        self._count = 0

    def send(self, verb: str, body: dict[str, Any]) -> str:
        """Queue a command; returns the id that its answers will carry."""
        self._count += 1
        id_ = f"{self.name}-{self._count}"
        while self._outgoing.full():
            self._outgoing.get_nowait()
        self._outgoing.put_nowait((verb, {"id": id_, "client": self.name, **body}))
        return id_

    async def wait_there(self, running: asyncio.Task[None]) -> None:
        """Wait until the session's state is known. Raises PlayError without a broker or without such a
        session."""
        there = asyncio.create_task(self._there.wait(), name="wait for state")
        await asyncio.wait([running, there], return_when=asyncio.FIRST_COMPLETED)
        there.cancel()
        if running.done():
            await running  # it only ends with an error

    async def run(self) -> None:
        while True:
            try:
                async with self._broker.client() as client:
                    await self._converse(client)
            except aiomqtt.MqttError as error:
                if not self._there.is_set():
                    raise PlayError(
                        f"no MQTT broker answers at {self._broker.shown} ({error}): start `psistream serve`, "
                        "or name one with --mqtt"
                    ) from None
            self._online(False)
            await asyncio.sleep(RETRY_S)

    async def _converse(self, client: aiomqtt.Client) -> None:
        for topic in (f"ack/{self.name}", "event", "state"):
            await client.subscribe(f"{self._root}/{topic}", qos=0)
        await client.subscribe(f"{ROOT}/engine/+/status", qos=0)
        self._online(True)
        parts = {
            "send": self._send_all(client),
            "receive": self._receive(client),
            "check session": self._check_session(client),
        }
        tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
        try:
            for finished in asyncio.as_completed(tasks):
                await finished
        finally:
            await end(*tasks)

    async def _check_session(self, client: aiomqtt.Client) -> None:
        """The state is retained, so it arrives at once or not at all. If not, name the sessions that
        exist."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STATE_TIMEOUT_S):
                await self._there.wait()
        if self._there.is_set():
            return
        await client.subscribe(f"{ROOT}/session/+/state", qos=0)
        await asyncio.sleep(STATE_TIMEOUT_S / 2)
        known = (
            f"there are: {', '.join(sorted(self._others))}" if self._others else "is psistream serve running?"
        )
        raise PlayError(f"no session {self._session} at {self._broker.shown}; {known}")

    async def _send_all(self, client: aiomqtt.Client) -> None:
        while True:
            verb, message = await self._outgoing.get()
            qos = 0 if verb == "action" else 1
            await client.publish(f"{self._root}/cmd/{verb}", json.dumps(message), qos=qos)

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes | bytearray) else b""
            try:
                content = json.loads(payload) if payload else {}
            except (ValueError, RecursionError):
                continue
            if isinstance(content, dict):
                self._sort(str(message.topic), content)

    def _sort(self, topic: str, message: dict[str, Any]) -> None:
        if topic == f"{self._root}/state":
            if message:
                self._there.set()
            self._hear("state", message)
        elif topic == f"{self._root}/ack/{self.name}":
            self._hear("ack", message)
        elif topic == f"{self._root}/event":
            self._hear("event", message)
        elif topic.startswith(f"{ROOT}/engine/"):
            self._hear("status", message)
        elif topic.endswith("/state") and message:
            self._others.add("".join(filter(str.isprintable, topic.split("/")[3])))
