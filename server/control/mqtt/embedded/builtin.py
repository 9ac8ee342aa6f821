"""The built-in MQTT broker, for machines without mosquitto: amqtt behind a listener of our own.

On loopback only, MQTT 3.1.1, without passwords, and nothing is kept over a restart. amqtt sets no limits of
its own, so they are set here: connections, packet size, silence before CONNECT, subscribers that don't read,
messages and sessions that wait for a client that is away. It doesn't know topics.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter  # type: ignore[import-untyped]
from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.plugins.base import BaseAuthPlugin  # type: ignore[import-untyped]

from engine.errors import Unavailable
from server.control.mqtt.embedded.limits import LIMITS, BrokerLimits

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORT = 1883
MAX_CONNECTIONS = 64
MAX_PACKET_BYTES = 4 * 2**20  # a prompt of 1 MB still gets its answer; 256 MB (the protocol's limit) doesn't
CONNECT_TIMEOUT_S = 5.0
MQTT_3_1_1 = 4
REFUSED_V5 = bytes((0x20, 3, 0, 0x84, 0))  # CONNACK of MQTT 5: unsupported protocol version, no properties
REFUSED = bytes((0x20, 2, 0, 1))  # CONNACK of MQTT 3: unacceptable protocol version

TakesRetained = Callable[[str, bytes], bool]

_CONFIG = {
    "listeners": {"default": {"type": "external"}},
    "plugins": {f"{__name__}.EverybodyPlugin": {}},
}


class EverybodyPlugin(BaseAuthPlugin):  # type: ignore[misc]
    """Accepts every client. amqtt's own plugin makes clients anonymous, so their persistent sessions would
    get nothing that was published while they were offline."""

    async def authenticate(self, *, session: Any) -> bool:
        return True


class _Reader(StreamReaderAdapter):  # type: ignore[misc]
    """Returns `first` before the rest, and ends the connection at a packet that is too large."""

    def __init__(self, reader: asyncio.StreamReader, first: bytes) -> None:
        super().__init__(reader)
        self._first = first
        self._ended = False

    async def read(self, n: int = -1) -> bytes:
        if self._ended or n > MAX_PACKET_BYTES:
            self._ended = True
            raise asyncio.IncompleteReadError(b"", n)
        if not self._first:
            return bytes(await super().read(n))
        data, self._first = self._first[:n], self._first[n:]
        if len(data) < n:
            data += bytes(await super().read(n - len(data)))
        return data


class _Writer(StreamWriterAdapter):  # type: ignore[misc]
    """Disconnects a client that does not read, instead of queueing for it without a limit."""

    def __init__(self, writer: asyncio.StreamWriter, limit_s: float) -> None:
        super().__init__(writer)
        self._transport, self._limit_s = writer.transport, limit_s

    async def drain(self) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await super().drain()
        except TimeoutError:
            self._transport.abort()
            raise ConnectionResetError("the client does not read") from None


class _Outgoing(dict[str, Any]):
    """A message on its way to subscribers. amqtt sends it with the subscription's QoS; the standard requires
    the lower one of that and the message's own. amqtt asks for it by get("qos", QoS of the subscription)."""

    def get(self, key: str, default: Any = None) -> Any:
        value = super().get(key, default)
        return min(value, default) if key == "qos" and isinstance(default, int) else value


class _Broker(Broker):  # type: ignore[misc]
    """amqtt 0.12.1 without the bugs that affect clients. `takes_retained` is offered each message that is to
    be retained, and takes those that must not be passed on."""

    def __init__(self, takes_retained: TakesRetained, limits: BrokerLimits) -> None:
        super().__init__(_CONFIG)
        self._takes_retained, self._limits = takes_retained, limits
        self._qos_of_message: ContextVar[int | None] = ContextVar("qos", default=None)

    async def _handle_message_delivery(
        self, client_session: Any, handler: Any, wait_deliver: asyncio.Future[Any]
    ) -> bool:
        """Only here does a message still have its retain flag: MQTT 3.1.1 clears it for existing
        subscribers."""
        message = wait_deliver.result()
        packet = message and message.publish_packet
        if packet and packet.retain_flag and self._takes_retained(message.topic, bytes(message.data or b"")):
            return True
        self._qos_of_message.set(message.qos if message else None)
        return bool(await super()._handle_message_delivery(client_session, handler, wait_deliver))

    async def _broadcast_message(
        self, session: Any, topic: str | None, data: bytes | bytearray | None, force_qos: int | None = None
    ) -> None:
        qos = self._qos_of_message.get() if force_qos is None else force_qos
        message = _Outgoing(session=session, topic=topic, data=data)
        if qos is not None:
            message["qos"] = qos
        await self._broadcast_queue.put(message)

    async def retain_message(self, source: Any, topic: str | None, data: Any, qos: int | None = None) -> None:
        """amqtt stores every retained message. Here existing ones stay, so that no client can displace the
        server's own."""
        others = [len(m.data or b"") for name, m in self._retained_messages.items() if name != topic]
        most = self._limits
        if data and (len(others) >= most.retained or sum(others) + len(data) > most.retained_bytes):
            log.warning("a retained MQTT message was not kept: there are %d, the limit", len(others))
            data = b""  # an earlier one of this topic is no longer true
        await super().retain_message(source, topic, data, qos)

    async def _retain_broadcast_message(self, broadcast: Any, qos: int, target_session: Any) -> None:
        """Queue a message for an offline client. amqtt's queue has no limit; here the oldest message is
        dropped."""
        waiting = target_session.retained_messages
        while waiting.qsize() >= self._limits.waiting:
            waiting.get_nowait()
        await super()._retain_broadcast_message(broadcast, qos, target_session)

    async def _publish_session_retained_messages(self, session: Any) -> None:
        """Deliver what was queued for a client that is back. amqtt marks it as retained, which it is not."""
        handler, waiting = self._get_handler(session), session.retained_messages
        while handler and not waiting.empty():
            message = waiting.get_nowait()
            await handler.mqtt_publish(message.topic, message.data, message.qos, retain=False)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Any
    ) -> None:
        """amqtt 0.12.1 sends every new client the retained messages of other clients' subscriptions. That
        leaks them, and it breaks mosquitto_pub, which has already disconnected: the write fails and its
        message is lost."""
        if any(subscriber is session for subscriber, _ in self._subscriptions.get(subscription[0], ())):
            await super()._publish_retained_messages_for_subscription(subscription, session)


async def _first_bytes(reader: asyncio.StreamReader) -> tuple[bytes, int]:
    """The bytes of CONNECT up to the protocol level, and that level. Raises OSError, EOFError and ValueError
    for anything else, and TimeoutError for a client that sends nothing."""
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        data = await reader.readexactly(1)
        if data[0] != 0x10:
            raise ValueError("not CONNECT")
        while True:
            data += await reader.readexactly(1)
            if data[-1] < 128:
                break
            if len(data) > 4:
                raise ValueError("a length of more than four bytes")
        data += await reader.readexactly(2)
        length = int.from_bytes(data[-2:], "big")
        if length > 6:
            raise ValueError("no protocol name")
        data += await reader.readexactly(length + 1)
    return data, data[-1]


class EmbeddedBroker:
    """`async with EmbeddedBroker() as broker: broker.url`. It uses any free port if `port` is occupied.

    `takes_retained(topic, payload)` is called for a message that is to be retained. If it returns True,
    nobody gets the message, now or later."""

    def __init__(self, port: int = PORT, limits: BrokerLimits = LIMITS) -> None:
        self.port = port
        self._wanted, self._limits = port, limits
        self._broker: Any = None
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._quiet = _quiet_logs()
        self.takes_retained: TakesRetained = lambda topic, payload: False

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self._quiet.__enter__()
        try:
            self._broker = _Broker(lambda topic, payload: self.takes_retained(topic, payload), self._limits)
            await self._broker.start()
            self._server = await self._listen()
        except BaseException:
            await self._close()
            raise
        self.port = self._server.sockets[0].getsockname()[1]
        if self._wanted not in (0, self.port):
            log.warning("port %d is occupied: the MQTT broker listens on %s", self._wanted, self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._serve, HOST, self._wanted)
        except OverflowError:
            raise Unavailable(f"port {self._wanted} is not a port: use 0 to 65535", field="mqtt") from None
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES) or self._wanted == 0:
                raise Unavailable(
                    f"the MQTT broker cannot listen on {HOST}: {error.strerror}", field="mqtt"
                ) from None
            return await asyncio.start_server(self._serve, HOST, 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections[task] = writer
        try:
            first, level = await _first_bytes(reader)
            if level != MQTT_3_1_1:
                writer.write(REFUSED_V5 if level == 5 else REFUSED)
                await writer.drain()
                return
            writing = _Writer(writer, self._limits.write_s)
            await self._broker.external_connected(_Reader(reader, first), writing, "default")
        except Exception as error:  # outermost: amqtt lets client errors through
            log.debug("MQTT client dropped: %r", error)
        finally:
            del self._connections[task]
            writer.close()
            await self._forget_who_is_away()

    async def _forget_who_is_away(self) -> None:
        sessions = {} if self._broker is None else self._broker._sessions
        away = [
            name
            for name, (session, _) in sessions.items()
            if session.transitions.state == "disconnected" and not session.clean_session
        ]
        for name in away[: max(0, len(away) - self._limits.away)]:
            with suppress(Exception):
                await self._broker._cleanup_session(name)

    async def _close(self) -> None:
        """Idempotent. amqtt's own shutdown closes the clients that it knows; the rest is closed here."""
        server, self._server = self._server, None
        broker, self._broker = self._broker, None
        if server is not None:
            server.close()
        if broker is not None:
            with suppress(Exception):
                await broker.shutdown()
        for writer in list(self._connections.values()):
            writer.transport.abort()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=1.0)
        self._quiet.__exit__(None, None, None)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """amqtt logs every client error, which is thousands of lines under abuse, and none of them needs
    action."""
    loggers = [logging.getLogger(name) for name in ("amqtt", "transitions")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
