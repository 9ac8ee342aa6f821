"""Publishes what is in the outbox, several messages at a time, in their order."""

from __future__ import annotations

import asyncio
import logging

import aiomqtt

from server.control.mqtt.connection.client import MqttClient
from server.control.mqtt.connection.outbox import Outbox, Outgoing

log = logging.getLogger(__name__)

WINDOW = 16  # concurrent publishes


class Sender:
    """Call `wake` after a message was put into the outbox. All of it raises MqttError."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting = asyncio.Event()
        self.wake = self._waiting.set

    async def run(self, client: MqttClient) -> None:
        """Until cancelled."""
        window = asyncio.Semaphore(WINDOW)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._waiting.wait()
                self._waiting.clear()
                while (message := self._outbox.take()) is not None:
                    await window.acquire()
                    group.create_task(self._publish(client, message, window), name="mqtt-publish")

    async def finish(self, client: MqttClient) -> None:
        """Publish what is left."""
        while (message := self._outbox.take()) is not None:
            await self._publish(client, message)

    async def _publish(
        self, client: MqttClient, message: Outgoing, window: asyncio.Semaphore | None = None
    ) -> None:
        try:
            await client.send(message)
        except aiomqtt.MqttError:
            self._outbox.put_back(message)
            raise
        except ValueError as error:
            log.warning("MQTT: not published on %s: %s", message.topic, error)
        finally:
            if window is not None:
                window.release()
