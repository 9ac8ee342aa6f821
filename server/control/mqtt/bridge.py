"""The bridge between the gateway (Steering) and an MQTT broker, on the topics of docs/protocol.md.

The server goes on whatever the broker does: while it is away the bridge is `degraded` and tries again with
back-off; once it is back, subscriptions, status and retained states are restored. Queues are bounded: of
incoming messages the oldest is dropped, for outgoing ones see outbox.py. It doesn't know WebRTC or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import aiomqtt

from engine.errors import InvalidInput
from server.control.base import SessionEvent, Steering
from server.control.mqtt import topics
from server.control.mqtt.client import BrokerUrl, MqttClient, backoff_s, is_wrong_protocol, parse_url, why
from server.control.mqtt.commands import Steerer, status_message
from server.control.mqtt.outbox import Outbox, Outgoing

log = logging.getLogger(__name__)

MAX_INCOMING = 256
WINDOW = 16  # publishes under way at once
STEADY_S = 5.0  # a connection that lasted this long starts the back-off anew
FAREWELL_S = 1.0
WATCH_DROPS_S = 1.0

State = Literal["connecting", "connected", "degraded", "closed"]


@dataclass(frozen=True)
class BridgeStatus:
    """For /readyz, /metrics and logs. `degraded`: the broker is away, everything but MQTT goes on."""

    state: State
    broker: str
    detail: str
    connects_total: int
    received_total: int
    rejected_total: int
    dropped_total: int


class MqttBridge:
    """`async with MqttBridge(steering, "mqtt://…") as bridge`. Entering doesn't wait for the broker."""

    def __init__(
        self,
        steering: Steering,
        url: str,
        *,
        node: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._url: BrokerUrl = parse_url(url)
        self.node = node or _host_name()
        if not topics.is_name(self.node):
            raise InvalidInput(f"the node's name must be {topics.NAME_RULE}", field="node")
        self._clock = clock
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._steerer = Steerer(
            steering, self._outbox, self.node, clock=clock, wall_clock=wall_clock, on_put=self._wake.set
        )
        self._steering = steering
        self._v5 = True
        self._state: State = "connecting"
        self._detail = ""
        self._connects_total = self._incoming_dropped_total = 0
        self._connected = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stop_listening: Callable[[], None] | None = None

    @property
    def url(self) -> str:
        """Where clients connect, without user and password."""
        return self._url.shown

    @property
    def status(self) -> BridgeStatus:
        return BridgeStatus(
            state=self._state,
            broker=self._url.shown,
            detail=self._detail,
            connects_total=self._connects_total,
            received_total=self._steerer.received_total,
            rejected_total=self._steerer.rejected_total,
            dropped_total=self._outbox.dropped_total + self._incoming_dropped_total,
        )

    def take_retained(self, topic: str, payload: bytes) -> bool:
        """For a broker that asks before it passes on what is to be retained. False: it is no command."""
        return self._steerer.take_retained(topic, payload)

    async def wait_connected(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    async def __aenter__(self) -> Self:
        self._stop_listening = self._steering.listen(self._on_event)
        self._task = asyncio.create_task(self._run(), name="mqtt-bridge")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        self._closing.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=2 * FAREWELL_S)
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._state = "closed"

    def _on_event(self, event: SessionEvent) -> None:
        try:
            self._steerer.on_event(event, connected=self._connected.is_set())
        except Exception:  # outermost: a listener must not hurt the gateway
            log.exception("an event could not be published by MQTT")

    # ---- the connection, again and again ----

    async def _run(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            since_s = self._clock()
            try:
                await self._connect_once()
            except* (aiomqtt.MqttError, OSError) as group:
                error = _first(group)
                if self._v5 and is_wrong_protocol(error):
                    self._v5 = False  # amqtt and others speak 3.1.1 only
                    attempt = -1
                else:
                    self._lost(error)
            except* Exception as group:  # outermost: whatever it was, the bridge must come back
                log.exception("MQTT bridge failed, it will reconnect")
                self._lost(_first(group))
            lasted_s = self._clock() - since_s
            attempt = 0 if lasted_s > STEADY_S or attempt < 0 else attempt + 1
            if attempt > 0 or self._state == "degraded":
                await self._pause(backoff_s(attempt))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _lost(self, error: BaseException) -> None:
        self._connected.clear()
        self._outbox.forget_events()
        self._detail = why(error)
        if self._state != "degraded":
            log.warning("MQTT broker %s: %s; everything else goes on, trying again", self.url, self._detail)
        self._state = "degraded"

    async def _connect_once(self) -> None:
        will = aiomqtt.Will(
            topics.status(self.node), status_message(self.node, "offline"), qos=1, retain=True
        )
        async with MqttClient(self._url, v5=self._v5, queue=MAX_INCOMING, will=will) as client:
            await client.listen_to(topics.COMMANDS)
            self._connects_total += 1
            self._state, self._detail = "connected", ""
            log.info("MQTT: connected to %s", self.url)
            self._steerer.put_everything_retained()
            self._connected.set()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._receive(client), name="mqtt-receive"),
                    group.create_task(self._send(client), name="mqtt-send"),
                    group.create_task(self._watch_drops(client), name="mqtt-drops"),
                ]
                await self._closing.wait()
                for task in tasks:
                    task.cancel()
            self._connected.clear()
            await self._farewell(client)

    async def _receive(self, client: MqttClient) -> None:
        async for message in client.messages:
            try:
                properties = message.properties
                self._steerer.on_message(
                    str(message.topic),
                    bytes(message.payload),
                    retain=bool(message.retain),
                    response_topic=getattr(properties, "ResponseTopic", None),
                    correlation=getattr(properties, "CorrelationData", None),
                    expiry_s=getattr(properties, "MessageExpiryInterval", None),
                )
            except Exception:  # outermost: one message must not end the listener
                log.exception("an MQTT message on %s could not be handled", message.topic)

    async def _send(self, client: MqttClient) -> None:
        window = asyncio.Semaphore(WINDOW)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (message := self._outbox.take()) is not None:
                    await window.acquire()
                    group.create_task(self._publish(client, message, window), name="mqtt-publish")

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

    async def _watch_drops(self, client: MqttClient) -> None:
        """Say once a second at most that commands came faster than they could be read."""
        base = self._incoming_dropped_total
        while True:
            await asyncio.sleep(WATCH_DROPS_S)
            total = base + client.incoming_dropped_total
            if total > self._incoming_dropped_total:
                log.warning(
                    "MQTT: %d commands dropped, too many at once", total - self._incoming_dropped_total
                )
                self._incoming_dropped_total = total

    async def _farewell(self, client: MqttClient) -> None:
        """Leave nothing retained that isn't so any more."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                self._steerer.put_farewell()
                while (message := self._outbox.take()) is not None:
                    await self._publish(client, message)
        except (TimeoutError, aiomqtt.MqttError) as error:
            log.debug("MQTT: no farewell: %s", error)


@asynccontextmanager
async def open_mqtt(setting: str, steering: Steering) -> AsyncIterator[MqttBridge | None]:
    """`setting` is "off", "embedded", "embedded:PORT" or an mqtt(s):// URL, or InvalidInput is raised."""
    kind, _, port = setting.partition(":")
    if setting == "off":
        yield None
    elif kind == "embedded":
        from server.control.mqtt.broker import PORT, EmbeddedBroker

        if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise InvalidInput("embedded:PORT needs a port from 0 (any) to 65535", field="mqtt")
        async with EmbeddedBroker(int(port or PORT)) as broker, MqttBridge(steering, broker.url) as bridge:
            broker.takes_retained = bridge.take_retained
            await bridge.wait_connected(2.0)
            yield bridge
    elif kind in ("mqtt", "mqtts"):
        async with MqttBridge(steering, setting) as bridge:
            yield bridge
    else:
        raise InvalidInput(
            "--mqtt must be embedded, embedded:PORT, off or an mqtt(s)://host:port URL", field="mqtt"
        )


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _host_name() -> str:
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname()).strip("-")
    return name[:64].strip("-") or "local"
