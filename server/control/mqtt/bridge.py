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

from engine.commandline.broker_url import BrokerUrl, parse_url
from engine.errors import InvalidInput
from server.control.base import SessionEvent, Steering
from server.control.mqtt.commands import Commands, Rights
from server.control.mqtt.connection.client import (
    MqttClient,
    backoff_s,
    is_wrong_protocol,
    properties_of,
    why,
)
from server.control.mqtt.connection.outbox import Outbox
from server.control.mqtt.connection.patience import PATIENCE, Patience
from server.control.mqtt.connection.sender import Sender
from server.control.mqtt.connection.subscriptions import Subscriptions
from server.control.mqtt.connection.url import Reach
from server.control.mqtt.discovery import HomeAssistant
from server.control.mqtt.dispatch import Dispatcher
from server.control.mqtt.node import host_name
from server.control.mqtt.publisher import RENEW_S, Publisher, status_message
from server.control.mqtt.servers import Servers
from server.control.mqtt.status import BridgeStatus, IncomingDrops, State
from server.control.mqtt.strays import Strays
from server.control.mqtt.topics import MAIN, MAX_NODE, NODE_RULE, PREFIX, Topics, is_node
from server.tasks import first_error

log = logging.getLogger(__name__)

MAX_INCOMING = 1024
STEADY_S = 5.0  # a connection of at least this length resets the back-off
FAREWELL_S = 1.0
SUBSCRIBE_S = 2.0


class MqttBridge:
    """`async with MqttBridge(steering, "mqtt://…") as bridge`. Entering doesn't wait for the broker.

    `reach` is where clients connect, if that is not `url`. A gateway of a cluster says by `owner_of` which
    other one has a session (see Strays). Raises InvalidInput for a URL, node or prefix that cannot be one."""

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
        owner_of: Callable[[str], str | None] | None = None,
        patience: Patience = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._url: BrokerUrl = parse_url(url)
        self._reach = reach or Reach(self._url.shown)
        self.node = node or host_name()[:MAX_NODE].strip("-")
        if not is_node(self.node):
            raise InvalidInput(f"--node must be {NODE_RULE}", field="node")
        self.topics = Topics(prefix)
        self._clock, self._patience = clock, patience
        self._outbox = Outbox()
        self._sender = Sender(self._outbox)
        self._servers = Servers(self.node, secrets.token_hex(4), member=owner_of is not None)
        topics, servers = self.topics, self._servers
        self._publisher = Publisher(
            steering,
            self._outbox,
            topics,
            servers,
            self._sender.wake,
            discovery,
            lambda session: owner_of is not None and owner_of(session) is not None,
        )
        self._subscriptions = Subscriptions(steering, topics, servers, self._publisher.put_names)
        clocks = {"clock": clock, "wall_clock": wall_clock}
        self._commands = Commands(steering, self._publisher, topics, servers, **clocks, rights=rights)
        self._strays = Strays(self._commands, topics, servers, owner_of, clock)
        self._dispatcher = Dispatcher(topics, servers, self._publisher, self._commands, self._strays)
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
        name = self._servers.names_of(MAIN)[-1]
        return f"MQTT at {self._reach.shown}, topic {self.topics.command(name, 'prompt')}"

    def addresses(self, session: str) -> dict[str, str | None]:
        """For clients: where the broker is, also by WebSocket if it does that, and the topic of a session,
        below which are `cmd`, `ack`, `state`, `event` and `error`."""
        return {
            "url": self.url,
            "websocket_url": self._reach.websocket_url,
            "topic": self.topics.session(self._servers.names_of(session)[0]),
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

    async def subscribed(self) -> None:
        """Wait until commands for a session that was just opened arrive, if the broker is there."""
        if self._connected.is_set():
            await self._subscriptions.settled(SUBSCRIBE_S)

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
            self._subscriptions.on_event(event)
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
                error = first_error(group)
                if self._v5 and is_wrong_protocol(error):
                    self._v5 = False  # amqtt and others speak 3.1.1 only
                    attempt = -1
                else:
                    self._lost(error)
            except* Exception as group:  # outermost: whatever it was, the bridge must come back
                log.exception("MQTT bridge failed, it will reconnect")
                self._lost(first_error(group))
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
        offline = status_message(
            self.node, "offline", instance=self._servers.instance, cluster=self._servers.member
        )
        will = aiomqtt.Will(self.topics.status(self.node), offline, qos=1, retain=True)
        self._servers.forget()
        async with self._client(will) as client:
            client.on_refused = self._refused
            await client.listen_to(self.topics.statuses, retained=True)
            await client.listen_to(self.topics.sessions("+"), retained=True)
            await self._subscriptions.begin(client)
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
                    group.create_task(self._sender.run(client), name="mqtt-send"),
                    group.create_task(self._drops.watch(client), name="mqtt-drops"),
                    group.create_task(self._renew(), name="mqtt-renew"),
                    group.create_task(self._subscriptions.follow(client), name="mqtt-subscribe"),
                    group.create_task(self._strays.run(self._client), name="mqtt-strays"),
                ]
                await self._closing.wait()
                for task in tasks:
                    task.cancel()
            self._connected.clear()
            await self._farewell(client)

    def _client(self, will: aiomqtt.Will | None = None) -> MqttClient:
        return MqttClient(self._url, v5=self._v5, queue=MAX_INCOMING, will=will, patience=self._patience)

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

    def _refused(self, reason: str) -> None:
        if not self._detail:
            self._detail = f"the broker refuses some of what we publish ({reason}): check its ACL"
            log.warning("MQTT: %s", self._detail)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            self._publisher.renew()

    async def _farewell(self, client: MqttClient) -> None:
        try:
            async with asyncio.timeout(FAREWELL_S):
                self._publisher.put_farewell()
                await self._sender.finish(client)
        except (TimeoutError, aiomqtt.MqttError) as error:
            log.debug("MQTT: no farewell: %s", error)
