"""Steering over MQTT 3.1.1, which every broker supports: commands out; receipts, states and events in."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiomqtt

from clients.steer.errors import SteerError
from clients.steer.transport import (
    CONNECT_TIMEOUT_S,
    Control,
    Disconnected,
    Hear,
    Queue,
    check_session,
    first_of,
)
from engine.commandline.broker_url import BrokerUrl, parse_url
from engine.errors import InvalidInput

PREFIX = "psistream/v1"
STATE_TIMEOUT_S = 1.0
EXAMPLE = "mqtt://127.0.0.1:1883 or mqtts://user:password@host:8883"


class Broker(BrokerUrl):
    """How commands reach a broker."""

    @classmethod
    def parse(cls, url: str) -> Broker:
        """Raises SteerError."""
        try:
            found = parse_url(url)
        except InvalidInput:
            raise SteerError(f"mqtt must look like {EXAMPLE}") from None
        return cls(found.host, found.port, found.tls, found.username, found.password)

    def client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self.host,
            self.port,
            username=self.username,
            password=self.password,
            tls_params=aiomqtt.TLSParameters() if self.tls else None,
            timeout=CONNECT_TIMEOUT_S,
            keepalive=15,
            max_queued_incoming_messages=1024,
        )


class MqttTransport:
    """`name` picks the topic of our receipts. Without `topic` the session's topic is below `prefix`. `token`
    goes with every command, for servers that want one."""

    ask_again_s = 2.0

    def __init__(
        self,
        broker: Broker,
        session: str = "main",
        *,
        prefix: str = PREFIX,
        topic: str | None = None,
        token: str | None = None,
    ) -> None:
        check_session(session)
        self.shown = broker.shown
        self.name = f"play-{secrets.token_hex(3)}"
        self._broker = broker
        self._session = session
        self._own = {"client": self.name, **({"token": token} if token else {})}
        self._topic = topic or f"{prefix}/session/{session}"
        self._prefix = self._topic.rsplit("/session/", 1)[0]
        self._queue = Queue()
        self._there = asyncio.Event()
        self._others: set[str] = set()

    def post(self, control: Control) -> None:
        self._queue.put(control)

    async def converse(self, hear: Hear, connected: Callable[[], None]) -> None:
        try:
            async with self._broker.client() as client:
                for topic in (f"ack/{self.name}", "event", "state"):
                    await client.subscribe(f"{self._topic}/{topic}", qos=1 if topic.startswith("ack") else 0)
                await client.subscribe(f"{self._prefix}/engine/+/status", qos=0)
                connected()
                await first_of(
                    aiomqtt.MqttError,
                    send=self._queue.send_all(lambda control: self._send(client, control)),
                    receive=self._receive(client, hear),
                    check=self._check_session(client),
                )
        except aiomqtt.MqttError as error:
            raise Disconnected(
                f"no MQTT broker answers at {self.shown} ({error}): start `psistream serve`, "
                "or say with --mqtt where one is"
            ) from None

    async def _check_session(self, client: aiomqtt.Client) -> None:
        """The state is retained, so it arrives at once or not at all. If not, say which sessions exist."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STATE_TIMEOUT_S):
                await self._there.wait()
        if self._there.is_set():
            await asyncio.Event().wait()
        await client.subscribe(f"{self._prefix}/session/+/state", qos=0)
        await asyncio.sleep(STATE_TIMEOUT_S / 2)
        known = (
            f"there are: {', '.join(sorted(self._others))}" if self._others else "is psistream serve running?"
        )
        raise SteerError(f"no session {self._session} at {self.shown}; {known}")

    async def _send(self, client: aiomqtt.Client, control: Control) -> None:
        verb = control["type"]
        message = {name: value for name, value in control.items() if name != "type"}
        payload = json.dumps({**message, **self._own})
        await client.publish(f"{self._topic}/cmd/{verb}", payload, qos=0 if verb == "action" else 1)

    async def _receive(self, client: aiomqtt.Client, hear: Hear) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes | bytearray) else b""
            try:
                content = json.loads(payload) if payload else {}
            except (ValueError, RecursionError):
                continue
            if isinstance(content, dict):
                self._sort(str(message.topic), content, hear)

    def _sort(self, topic: str, message: dict[str, Any], hear: Hear) -> None:
        if topic == f"{self._topic}/state":
            if message:
                self._there.set()
                hear("state", message)
        elif topic == f"{self._topic}/ack/{self.name}":
            hear("receipt", message)
        elif topic == f"{self._topic}/event":
            hear("event", message)
        elif topic.startswith(f"{self._prefix}/engine/"):
            hear("status", message)
        elif topic.endswith("/state") and message:
            self._others.add("".join(filter(str.isprintable, topic.rsplit("/", 2)[1])))
