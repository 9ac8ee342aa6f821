"""MQTT as the settings ask for it: none, a broker of our own or one that runs elsewhere, and the bridge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from engine.errors import InvalidInput
from server.config import MqttOptions
from server.control.base import Steering
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.node import default_node

WHERE = "--mqtt must be embedded, embedded:PORT, off or an mqtt(s)://host:port URL"


@asynccontextmanager
async def open_mqtt(
    setting: str, steering: Steering, options: MqttOptions | None = None
) -> AsyncIterator[MqttBridge | None]:
    """`setting` is "off", "embedded", "embedded:PORT" or an mqtt(s):// URL, or InvalidInput is raised."""
    options = options or MqttOptions()
    kind, _, port = setting.partition(":")
    if setting == "off":
        yield None
        return
    if kind not in ("embedded", "mqtt", "mqtts"):
        raise InvalidInput(WHERE, field="mqtt")
    async with AsyncExitStack() as stack:
        node = options.node or stack.enter_context(default_node())
        if kind != "embedded":
            bridge = MqttBridge(steering, setting, node=node, prefix=options.prefix)
            yield await stack.enter_async_context(bridge)
            return
        from server.control.mqtt.broker import PORT, EmbeddedBroker

        if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise InvalidInput("embedded:PORT needs a port from 0 (any) to 65535", field="mqtt")
        broker = await stack.enter_async_context(EmbeddedBroker(int(port or PORT)))
        bridge = MqttBridge(steering, broker.url, node=node, prefix=options.prefix)
        await stack.enter_async_context(bridge)
        broker.takes_retained = bridge.take_retained
        await bridge.wait_connected(2.0)
        yield bridge
