"""An MQTT client that stores what it receives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
from paho.mqtt.properties import Properties

from tests.rigs.waiting import LONG_S, until


class Onlooker:
    """A client that subscribes to its topics (by default all of psistream/), stores messages and
    publishes."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.messages: list[aiomqtt.Message] = []

    def received(self, suffix: str) -> list[dict[str, Any]]:
        """The JSON messages so far whose topic ends with this suffix; {} for an empty payload."""
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
        """Wait for the latest answer with this status."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [m for m in self.received(suffix) if m.get("status") == status]
            return bool(found)

        await until(there, f"{status} on {suffix}")
        return found[-1]


@asynccontextmanager
async def onlooker(
    url: str, *, v5: bool = False, hears: str = "psistream/#", **options: Any
) -> AsyncIterator[Onlooker]:
    protocol = aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311
    port = int(url.rsplit(":", 1)[1])
    async with aiomqtt.Client("127.0.0.1", port, protocol=protocol, timeout=LONG_S, **options) as client:
        looker = Onlooker(client)
        await client.subscribe(hears, qos=1)

        async def listen() -> None:
            async for message in client.messages:
                looker.messages.append(message)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(listen())
            try:
                yield looker
            finally:
                task.cancel()
