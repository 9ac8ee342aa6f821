"""An adapter around aiomqtt that works around its bugs, so that the bridge can rely on it.

Only `MqttClient` uses private parts of aiomqtt, which is pinned below 3. Each use has a test in
tests/server/control/mqtt/test_client.py. It knows no topics or sessions.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.subscribeoptions import SubscribeOptions

from engine.commandline.broker_url import BrokerUrl
from server.control.mqtt.connection.outbox import Outgoing
from server.control.mqtt.connection.patience import PATIENCE, Patience
from server.control.mqtt.message import JSON_TYPE, Properties

KEEPALIVE_S = 10  # a broker that hangs is noticed within twice this time, or by a publish
AT_ONCE = 64  # topic filters in one message
_WRONG_PROTOCOL = (1, 132)  # CONNACK codes of 3.1.1 and 5
_NOT_ALLOWED = (4, 5, 134, 135)
_PLAIN = {  # message of aiomqtt → ours
    "Disconnected during message iteration": "the connection was lost",
    "Operation timed out": "the broker does not answer",
}


def backoff_s(attempt: int, roll: Callable[[], float] = random.random) -> float:
    """Seconds to wait before attempt n = 0, 1, …: doubling from 0.25 s to 2 s, half of it random.

    The maximum is small on purpose: a game should be steerable again soon after its broker is back."""
    most = min(2.0, 0.25 * 2.0 ** min(attempt, 10))
    return most * (0.5 + 0.5 * roll())


class LatestQueue(asyncio.Queue[aiomqtt.Message]):
    """Bounded, drops the oldest and counts it: of controls the latest counts. (aiomqtt drops the newest.)"""

    dropped_total = 0

    def put_nowait(self, item: aiomqtt.Message) -> None:
        while self.full():
            self.get_nowait()
            self.dropped_total += 1
        super().put_nowait(item)


class _TlsSocket(ssl.SSLSocket):
    """Closes its socket when the handshake fails; paho would leave that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _tls_context() -> ssl.SSLContext:
    """The system's certificates, or those that SSL_CERT_FILE names."""
    context = ssl.create_default_context()
    context.sslsocket_class = _TlsSocket
    return context


class MqttClient(aiomqtt.Client):
    """One connection; use a new one for each. Raises aiomqtt.MqttError only.

    Against aiomqtt 2.5.1: a failed or cancelled connect leaks a socket, a reader and a task; a broker that
    hangs up before CONNACK is noticed by timeout only; a socket that closes early makes add_writer log an
    OSError; a disconnect error is reported as never retrieved; warnings flood above 10 calls in flight."""

    def __init__(
        self,
        url: BrokerUrl,
        *,
        v5: bool,
        queue: int,
        will: aiomqtt.Will | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        quiet = logging.getLogger("psistream.paho")
        quiet.setLevel(logging.CRITICAL)
        super().__init__(
            url.host,
            url.port,
            username=url.username,
            password=url.password,
            logger=quiet,
            protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
            will=will,
            clean_session=None if v5 else True,
            clean_start=v5 or MQTT_CLEAN_START_FIRST_ONLY,
            timeout=patience.connect_s,
            keepalive=KEEPALIVE_S,
            queue_type=LatestQueue,
            max_queued_incoming_messages=queue,
            tls_context=_tls_context() if url.tls else None,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self.v5, self._patience = v5, patience
        self.pending_calls_threshold = 10_000
        self.on_refused: Callable[[str], None] = lambda reason: None  # a publish acknowledged with an error
        self._abandoned = False

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._disconnected.done()

    @property
    def incoming_dropped_total(self) -> int:
        return self._queue.dropped_total if isinstance(self._queue, LatestQueue) else 0

    async def listen_to(self, *filters: str, retained: bool = False) -> None:
        """Subscribe to these topic filters with QoS 1. Raises MqttError also if the broker refuses.

        With `retained`, messages that were retained before are sent as well. Without it MQTT 5 does not send
        them, and keeps the retain flag of new ones."""
        options = SubscribeOptions(qos=1)
        if not retained:
            never = SubscribeOptions.RETAIN_DO_NOT_SEND
            options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=never)
        for some in _few(filters):
            wanted: Any = [(each, options if self.v5 else 1) for each in some]
            granted = await self.subscribe(wanted, timeout=self._patience.answer_s)
            codes = [code if isinstance(code, int) else code.value for code in granted]
            if refused := [each for each, code in zip(some, codes, strict=False) if code >= 128]:
                raise aiomqtt.MqttError(f"the broker doesn't let us subscribe to {refused[0]}: check its ACL")

    async def ignore(self, *filters: str) -> None:
        """Unsubscribe. Raises MqttError."""
        for some in _few(filters):
            await self.unsubscribe(list(some), timeout=self._patience.answer_s)

    async def received(self) -> AsyncIterator[aiomqtt.Message]:
        """All messages. aiomqtt's own iterator takes one message per two turns of the event loop, while the
        socket delivers several per turn: a burst would overflow the queue."""
        async for message in self.messages:
            yield message
            for another in self.arrived():
                yield another

    def arrived(self) -> Iterator[aiomqtt.Message]:
        """The messages that have arrived and were not read yet."""
        while not self._queue.empty():
            yield self._queue.get_nowait()

    async def send(self, message: Outgoing) -> None:
        """Publish a message. It is written before the first wait, so concurrent calls keep their order.
        Raises MqttError, ValueError."""
        await self.publish(
            message.topic,
            message.payload,
            qos=message.qos,
            retain=message.retain,
            properties=_properties_of(message) if self.v5 else None,
            timeout=self._patience.answer_s,
        )

    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except BaseException as error:
            self._drop()
            if isinstance(error, aiomqtt.MqttError | asyncio.CancelledError):
                raise
            raise aiomqtt.MqttError(str(error)) from error  # paho's own ValueError and the like

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(aiomqtt.MqttError):  # it is closed either way, and the caller knows why
                await super().__aexit__(kind, error, trace)
        finally:
            self._drop()

    def _drop(self) -> None:
        """Close whatever is still open. Idempotent."""
        self._abandoned = True
        self._client.disconnect()
        for _ in range(3):  # DISCONNECT is written, or the write fails; both close the socket
            if self._client.socket() is None or self._client.loop_write() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        if (open_socket := self._client.socket()) is not None:
            self._loop.remove_reader(open_socket.fileno())
            self._loop.remove_writer(open_socket.fileno())
            open_socket.close()
        if self._misc_task is not None:
            self._misc_task.cancel()
        for future in (self._connected, self._disconnected):
            if future.done() and not future.cancelled():
                future.exception()

    def _client_connect(self) -> None:
        """Runs on aiomqtt's executor thread, which cannot be cancelled: clean up if nobody is waiting any
        more."""
        super()._client_connect()
        if self._abandoned:
            self._loop.call_soon_threadsafe(self._drop)

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        if not self._connected.done():
            self._connected.set_exception(
                aiomqtt.MqttError("the broker hung up before it accepted the connection")
            )
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: Any = None, properties: Any = None
    ) -> None:
        """aiomqtt drops the reason code, so a publish that an ACL forbids would look like a success."""
        code = getattr(reason_code, "value", 0)
        if code >= 128:
            self.on_refused(str(reason_code))
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            with suppress(OSError, ValueError):  # closed in the meantime
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(register)


def _few(filters: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """As many at a time as fit into one message."""
    for start in range(0, len(filters), AT_ONCE):
        yield filters[start : start + AT_ONCE]


def properties_of(message: aiomqtt.Message) -> Properties:
    """The properties that matter here; none in MQTT 3.1.1."""
    given = message.properties
    return Properties(
        response_topic=getattr(given, "ResponseTopic", None),
        correlation=getattr(given, "CorrelationData", None),
        expiry_s=getattr(given, "MessageExpiryInterval", None),
        content_type=getattr(given, "ContentType", None),
        user=tuple(getattr(given, "UserProperty", ())),
    )


def _properties_of(message: Outgoing) -> PahoProperties:
    made = PahoProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if message.payload and message.content_type is not None:
        made.ContentType = message.content_type
        made.PayloadFormatIndicator = int(message.content_type == JSON_TYPE)  # 1: UTF-8
    if message.correlation is not None:
        made.CorrelationData = message.correlation
    if message.expiry_s is not None:
        made.MessageExpiryInterval = message.expiry_s
    if message.user:
        made.UserProperty = list(message.user)
    return made


def code_of(error: BaseException) -> int | None:
    """The MQTT reason code in an aiomqtt error."""
    code = getattr(error, "rc", None)
    return getattr(code, "value", code)


def is_wrong_protocol(error: BaseException) -> bool:
    return isinstance(error, aiomqtt.exceptions.MqttConnectError) and code_of(error) in _WRONG_PROTOCOL


def why(error: BaseException) -> str:
    """The error as one line for people."""
    if isinstance(error, aiomqtt.exceptions.MqttConnectError) and code_of(error) in _NOT_ALLOWED:
        return "the broker refused the user name or password: check the mqtt:// URL"
    text = str(error) or type(error).__name__
    return _PLAIN.get(text, text)
