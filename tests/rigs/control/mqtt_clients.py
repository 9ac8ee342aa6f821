"""Plain MQTT clients, and an embedded mosquitto on free ports, for tests of the embedded brokers."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import aiomqtt

from server.config import MqttListen
from server.control.mqtt.embedded.mosquitto import MosquittoBroker, find_mosquitto
from tests.rigs.control.mosquitto import need_mosquitto
from tests.rigs.waiting import LONG_S

V3, V5 = aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5
ANYWHERE = MqttListen(port=0, websocket_port=0)


def mosquitto(listen: MqttListen = ANYWHERE) -> MosquittoBroker:
    need_mosquitto()
    program = find_mosquitto()
    assert program is not None
    return MosquittoBroker(program, listen)


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def client(port: int, **options: object) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", port, **{"protocol": V3, "timeout": LONG_S, **options})  # type: ignore[arg-type]


async def first(subscriber: aiomqtt.Client, within_s: float = LONG_S) -> aiomqtt.Message:
    async with asyncio.timeout(within_s):
        return await anext(subscriber.messages)
