"""MQTT as configured: off, an embedded broker or an external one, and the bridge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from engine.errors import InvalidInput
from server.config import MqttListen, MqttOptions
from server.control.base import Steering
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.commands import Rights
from server.control.mqtt.connection.url import Reach
from server.control.mqtt.discovery import HomeAssistant
from server.control.mqtt.embedded.mosquitto import MosquittoBroker, find_mosquitto, version_of
from server.control.mqtt.node import default_node
from server.control.mqtt.topics import Topics

WHERE = "--mqtt must be embedded, embedded:PORT, off or an mqtt(s)://host:port URL"
AMQTT = "built in, MQTT 3.1.1; with mosquitto installed also MQTT 5 and WebSockets"
CONNECT_S = 2.0


class ModelFacts(NamedTuple):
    fps: float  # natural speed
    actions: tuple[str, ...]


UNKNOWN = ModelFacts(0.0, ())


@asynccontextmanager
async def open_mqtt(
    setting: str,
    steering: Steering,
    options: MqttOptions | None = None,
    *,
    model: ModelFacts = UNKNOWN,
    authorize: Callable[[str, str], None] | None = None,
    member: str = "",
    owner_of: Callable[[str], str | None] | None = None,
) -> AsyncIterator[MqttBridge | None]:
    """`setting` is "off", "embedded", "embedded:PORT" or an mqtt(s):// URL; otherwise InvalidInput is raised.
    `model` is for Home Assistant; `authorize` checks the tokens in commands. A gateway of a cluster gives its
    name (`member`), which is its node, and says which other one has a session (`owner_of`)."""
    options = options or MqttOptions()
    kind, _, port = setting.partition(":")
    if setting == "off":
        yield None
        return
    if kind not in ("embedded", "mqtt", "mqtts"):
        raise InvalidInput(WHERE, field="mqtt")
    if kind == "embedded" and port:
        options = replace(options, listen=replace(options.listen, port=port_of(port, "embedded:PORT")))
    async with AsyncExitStack() as stack:
        node = member or options.node or stack.enter_context(default_node())
        finds_us = options.discovery == "homeassistant"
        discovery = HomeAssistant(Topics(options.prefix), node, *model) if finds_us else None
        make = partial(
            MqttBridge,
            steering,
            node=node,
            prefix=options.prefix,
            discovery=discovery,
            rights=Rights(authorize, options.access == "token") if authorize else None,
        )
        if kind != "embedded":
            yield await stack.enter_async_context(make(setting, owner_of=owner_of if member else None))
            return
        private = Topics(options.prefix) if options.access == "token" else None
        bridge = await _embedded(stack, make, options.listen, private)
        await bridge.wait_connected(CONNECT_S)
        yield bridge


def port_of(text: str, what: str) -> int:
    """Raises InvalidInput."""
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise InvalidInput(f"{what} needs a port from 0 (any) to 65535", field="mqtt")
    return int(text)


def embedded_broker() -> str:
    """A description of the broker that --mqtt embedded starts on this machine."""
    program = find_mosquitto()
    return AMQTT if program is None else f"mosquitto {version_of(program)}, MQTT 3.1.1, 5 and WebSockets"


async def _embedded(
    stack: AsyncExitStack, make: Callable[..., MqttBridge], listen: MqttListen, private: Topics | None
) -> MqttBridge:
    """mosquitto if it is installed, otherwise amqtt. Raises InvalidInput, Unavailable."""
    program = find_mosquitto()
    about = await asyncio.to_thread(embedded_broker)
    if program is not None:
        broker = await stack.enter_async_context(MosquittoBroker(program, listen, private))
        bridge = make(broker.url, reach=Reach(broker.shown, broker.websocket_url, about))
        return await stack.enter_async_context(bridge)
    if listen != replace(MqttListen(), port=listen.port):
        raise InvalidInput(
            "the built-in MQTT broker has no other address, WebSockets, TLS or password: install mosquitto "
            "(apt-get install mosquitto), or leave those options out",
            field="mqtt",
        )
    if private is not None:
        raise InvalidInput(
            "with --mqtt-access token the built-in MQTT broker would show tokens to whoever listens: install "
            "mosquitto (apt-get install mosquitto), or use a broker of your own",
            field="mqtt_access",
        )
    from server.control.mqtt.embedded.builtin import EmbeddedBroker

    built_in = await stack.enter_async_context(EmbeddedBroker(listen.port))
    bridge = make(built_in.url, reach=Reach(built_in.url, about=about))
    built_in.takes_retained = bridge.take_retained
    return await stack.enter_async_context(bridge)
