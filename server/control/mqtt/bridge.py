"""The bridge between the gateway (Steering) and an MQTT broker, on the topics of docs/protocol.md.

The server does not depend on the broker: without it the bridge is `degraded` and reconnects with back-off.
After reconnecting it subscribes and publishes status and retained states again. Queues are bounded: the
oldest incoming message is dropped; outbox.py says which outgoing ones are. It doesn't know WebRTC or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import aiomqtt

from engine.errors import InvalidInput
from server.control.base import SessionEvent, Steering
from server.control.mqtt.client import MqttClient, backoff_s, is_wrong_protocol, properties_of, why
from server.control.mqtt.commands import Commands, Rights
from server.control.mqtt.discovery import HomeAssistant
from server.control.mqtt.dispatch import Dispatcher
from server.control.mqtt.node import host_name
from server.control.mqtt.outbox import Outbox, Outgoing
from server.control.mqtt.peers import Peers
from server.control.mqtt.publisher import RENEW_S, Publisher, status_message
from server.control.mqtt.status import BridgeStatus, IncomingDrops, State
from server.control.mqtt.topics import MAIN, MAX_NODE, NODE_RULE, PREFIX, Topics, is_node
from server.control.mqtt.url import BrokerUrl, Reach, parse_url

log = logging.getLogger(__name__)

MAX_INCOMING = 1024
WINDOW = 16  # concurrent publishes
STEADY_S = 5.0  # a connection of at least this length resets the back-off
FAREWELL_S = 1.0


class MqttBridge:
    """`async with MqttBridge(steering, "mqtt://…") as bridge`. Entering doesn't wait for the broker.

    `reach` is where clients connect, if that is not `url`. Raises InvalidInput for a URL, node or prefix that
    cannot be one."""

    MQTT_5 = True  # tried first; where the broker refuses it, MQTT 3.1.1

    def __init__(
        self,
        steering: Steering,
        url: str,
        *,
        node: str | None = None,
        prefix: str = PREFIX,
        reach: Reach | None = None,
        discovery: HomeAssistant | None = None,
        rights: Rights | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._url: BrokerUrl = parse_url(url)
        self._reach = reach or Reach(self._url.shown)
        self.node = node or host_name()[:MAX_NODE].strip("-")
        if not is_node(self.node):
            raise InvalidInput(f"--node must be {NODE_RULE}", field="node")
        self.topics = Topics(prefix)
        self._clock = clock
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._peers = Peers(self.node, secrets.token_hex(4))
        self._publisher = Publisher(
            steering, self._outbox, self.topics, self._peers, self._wake.set, discovery
        )
        self._commands = Commands(
            steering,
            self._publisher,
            self.topics,
            self._peers,
            clock=clock,
            wall_clock=wall_clock,
            rights=rights,
        )
        self._dispatcher = Dispatcher(self.topics, self._peers, self._publisher, self._commands)
        self._steering = steering
        self._v5 = self.MQTT_5
        self._state: State = "connecting"
        self._detail = ""
        self._connects_total = 0
        self._drops = IncomingDrops()
        self._connected = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stop_listening: Callable[[], None] | None = None

    @property
    def url(self) -> str:
        """Where clients connect, without user and password."""
        return self._reach.url

    @property
    def status(self) -> BridgeStatus:
        return BridgeStatus(
            state=self._state,
            broker=self.url,
            detail=self._detail or self._dispatcher.twin,
            connects_total=self._connects_total,
            received_total=self._commands.received_total,
            rejected_total=self._commands.rejected_total,
            dropped_total=self._outbox.dropped_total + self._drops.total,
        )

    @property
    def greeting(self) -> str:
        """One line about where to publish what."""
        name = self._peers.names_of(MAIN)[-1]
        return f"MQTT at {self._reach.shown}, topic {self.topics.command(name, 'prompt')}"

    def addresses(self, session: str) -> dict[str, str | None]:
        """For clients: where the broker is, also by WebSocket if it does that, and the topic of a session,
        below which are `cmd`, `ack`, `state`, `event` and `error`."""
        return {
            "url": self.url,
            "websocket_url": self._reach.websocket_url,
            "topic": self.topics.session(self._peers.names_of(session)[0]),
        }

    def put_picture(self, session: str, picture: bytes) -> None:
        """Publish a retained JPEG of a session, for clients that find the server by discovery."""
        self._publisher.put_picture(session, picture)

    def take_retained(self, topic: str, payload: bytes) -> bool:
        """Called by the broker before it retains a message. False: it is not a command."""
        return self._commands.take_retained(topic, payload)

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
            self._commands.on_event(event)
            self._publisher.on_event(event, connected=self._connected.is_set())
        except Exception:  # outermost: a listener must not hurt the gateway
            log.exception("an event could not be published by MQTT")

    # ---- the connection ----

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
            log.warning("MQTT broker %s: %s; everything else works, trying again", self.url, self._detail)
        self._state = "degraded"

    async def _connect_once(self) -> None:
        offline = status_message(self.node, "offline", instance=self._peers.instance)
        will = aiomqtt.Will(self.topics.status(self.node), offline, qos=1, retain=True)
        self._peers.forget()
        async with MqttClient(self._url, v5=self._v5, queue=MAX_INCOMING, will=will) as client:
            client.on_refused = self._refused
            await client.listen_to(self.topics.statuses, retained=True)
            await client.listen_to(self.topics.sessions(self.node), retained=True)
            await client.listen_to(self.topics.commands)
            self._connects_total += 1
            self._state, self._detail = "connected", ""
            log.info("MQTT: connected to %s as node %s", self.url, self.node)
            for message in client.arrived():  # who else is there, before we tell what is ours
                self._dispatch(message)
            self._publisher.put_everything_retained()
            self._connected.set()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._receive(client), name="mqtt-receive"),
                    group.create_task(self._send(client), name="mqtt-send"),
                    group.create_task(self._drops.watch(client), name="mqtt-drops"),
                    group.create_task(self._renew(), name="mqtt-renew"),
                ]
                await self._closing.wait()
                for task in tasks:
                    task.cancel()
            self._connected.clear()
            await self._farewell(client)

    # ---- in ----

    async def _receive(self, client: MqttClient) -> None:
        async for message in client.received():
            try:
                self._dispatch(message)
            except Exception:  # outermost: one message must not end the listener
                log.exception("an MQTT message on %s could not be handled", message.topic)

    def _dispatch(self, message: aiomqtt.Message) -> None:
        topic, payload = str(message.topic), bytes(message.payload)
        self._dispatcher.on_message(topic, payload, properties_of(message), retain=bool(message.retain))

    # ---- out ----

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

    def _refused(self, reason: str) -> None:
        if not self._detail:
            self._detail = f"the broker refuses some of what we publish ({reason}): check its ACL"
            log.warning("MQTT: %s", self._detail)

    async def _renew(self) -> None:
        """Publish retained messages again: in MQTT 5 they expire, so that a vanished server's disappear."""
        while True:
            await asyncio.sleep(RENEW_S)
            self._publisher.put_everything_retained()

    async def _farewell(self, client: MqttClient) -> None:
        try:
            async with asyncio.timeout(FAREWELL_S):
                self._publisher.put_farewell()
                while (message := self._outbox.take()) is not None:
                    await self._publish(client, message)
        except (TimeoutError, aiomqtt.MqttError) as error:
            log.debug("MQTT: no farewell: %s", error)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
