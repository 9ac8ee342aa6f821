"""The adapter around aiomqtt: each bug of aiomqtt 2.5.1 that it works around, one by one."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aiomqtt
import pytest

from benchmarks.network.ports import free_port
from engine.commandline.broker_url import BrokerUrl, parse_url
from engine.errors import InvalidInput
from server.control.mqtt.connection.client import LatestQueue, MqttClient, backoff_s, is_wrong_protocol, why
from server.control.mqtt.connection.outbox import Outgoing
from server.control.mqtt.connection.patience import Patience
from server.control.mqtt.embedded.builtin import EmbeddedBroker
from server.control.mqtt.embedded.limits import BrokerLimits
from tests.rigs.waiting import LONG_S, until

CONNACK, SUBACK = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01"
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def broker_that(behaves: Behaviour) -> AsyncIterator[BrokerUrl]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(asyncio.CancelledError):
                await behaves(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield BrokerUrl("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)


async def says_no(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"\x20\x02\x00\x05")
    await asyncio.sleep(0.05)


async def drops_later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for reply in (CONNACK, SUBACK):
        await reader.read(100)
        writer.write(reply)
    await asyncio.sleep(0.05)
    writer.transport.abort()


async def never_acks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(CONNACK)
    while await reader.read(100):
        pass


def open_sockets() -> int:
    names = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    found = 0
    for name in names:
        with suppress(OSError):
            found += os.readlink(name).startswith("socket:")
    return found


def held() -> tuple[int, int]:
    """The sockets and tasks of this process."""
    gc.collect()
    return open_sockets(), len(asyncio.all_tasks())


def at_most(now: tuple[int, int], before: tuple[int, int]) -> bool:
    """What an earlier test left may have gone meanwhile."""
    return now[0] <= before[0] and now[1] <= before[1]


async def hear_first_message(url: BrokerUrl, patience: Patience) -> None:
    async with MqttClient(url, v5=False, queue=4, patience=patience) as client:
        await client.listen_to("x")
        await anext(client.messages)


@pytest.mark.parametrize(
    ("behaves", "reason"),
    [
        (hangs, "does not answer"),
        (hangs_up, "hung up"),
        (says_no, "user name or password"),
        (drops_later, "was lost"),
    ],
)
async def test_a_failed_connection_leaves_nothing_behind(
    behaves: Behaviour, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """aiomqtt leaks a socket, a reader and a task for each attempt to connect to a hanging broker."""
    before, patience = held(), Patience(connect_s=0.2 if behaves is hangs else LONG_S)
    async with broker_that(behaves) as url:
        for _ in range(3):
            with pytest.raises(aiomqtt.MqttError) as caught:
                await hear_first_message(url, patience)
            assert pytest.RaisesExc(match=reason).matches(Exception(why(caught.value)))
    await until(lambda: at_most(held(), before), f"return to {before} sockets and tasks")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_cancelled_connect_leaves_nothing_behind() -> None:
    before = held()
    async with broker_that(hangs) as url:
        for delay_s in (0.0, 0.001, 0.05):
            task = asyncio.create_task(MqttClient(url, v5=True, queue=4).__aenter__())
            await asyncio.sleep(delay_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    await until(lambda: at_most(held(), before), f"return to {before} sockets and tasks")


async def test_a_broker_that_never_acknowledges_ends_in_an_error() -> None:
    impatient = Patience(answer_s=0.2)
    async with (
        broker_that(never_acks) as url,
        MqttClient(url, v5=False, queue=4, patience=impatient) as client,
    ):
        with pytest.raises(aiomqtt.MqttError):
            await client.send(Outgoing("a", b"b", qos=1))


async def test_many_publishes_at_once_keep_their_order_and_log_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with EmbeddedBroker(0) as embedded:
        url = parse_url(embedded.url)
        async with (
            MqttClient(url, v5=False, queue=500) as sender,
            MqttClient(url, v5=False, queue=500) as hearer,
        ):
            await hearer.listen_to("n/#")
            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(sender.send(Outgoing(f"n/{number}", b"x", qos=1)))
            heard = []
            async for message in hearer.messages:
                heard.append(int(str(message.topic)[2:]))
                if len(heard) == 100:
                    break
    assert heard == list(range(100))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_embedded_broker_speaks_3_1_1_only_and_says_so() -> None:
    async with EmbeddedBroker(0) as embedded:
        with pytest.raises(aiomqtt.MqttError) as caught:
            async with MqttClient(parse_url(embedded.url), v5=True, queue=4):
                pass
        assert is_wrong_protocol(caught.value)


async def test_the_embedded_broker_outlives_rude_clients() -> None:
    """Silence, garbage, a packet announced with 200 MB, a client that leaves in the middle of a packet."""
    async with EmbeddedBroker(0) as embedded:
        for noise in (
            b"",
            b"\x00" * 50,
            b"\xff" * 50,
            b"\x10\xff\xff\xff\x7f",
            b"\x10\x20\x00\x04MQ",
            b"GET / HTTP/1.1\r\n",
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", embedded.port)
            writer.write(noise)
            with suppress(ConnectionError):  # the broker may have hung up by now
                await writer.drain()
            writer.close()
        async with MqttClient(parse_url(embedded.url), v5=False, queue=4) as client:
            await client.listen_to("a")
            await client.send(Outgoing("a", b"still here", qos=1))
            message = await anext(client.messages)
            assert message.payload == b"still here"


async def test_the_embedded_broker_refuses_the_65th_client() -> None:
    async with EmbeddedBroker(0) as embedded:
        writers = [(await asyncio.open_connection("127.0.0.1", embedded.port))[1] for _ in range(64)]
        await until(lambda: embedded.connections == 64, "64 clients")
        reader, writer = await asyncio.open_connection("127.0.0.1", embedded.port)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(1), LONG_S) == b""
        for each in [*writers, writer]:
            each.close()


async def test_the_embedded_broker_drops_a_subscriber_that_does_not_read() -> None:
    """amqtt would queue for such a client without a limit."""
    async with EmbeddedBroker(0, BrokerLimits(write_s=0.2)) as embedded:
        reader, writer = await asyncio.open_connection("127.0.0.1", embedded.port, limit=1)
        writer.write(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01z")  # CONNECT as z
        assert await reader.readexactly(4) == CONNACK
        writer.write(b"\x82\x06\x00\x01\x00\x01a\x00")  # SUBSCRIBE to a
        async with MqttClient(parse_url(embedded.url), v5=False, queue=4) as client:
            for _ in range(400):  # more than sockets' buffers hold
                await client.send(Outgoing("a", b"x" * 30_000, qos=1))
                if embedded.connections == 1:
                    break
            await until(lambda: embedded.connections == 1, "dropped")
        writer.close()


async def test_the_queue_keeps_the_latest() -> None:
    queue = LatestQueue(maxsize=2)
    for number in range(5):
        queue.put_nowait(aiomqtt.Message(f"t/{number}", b"", 0, False, number, None))
    assert [queue.get_nowait().mid for _ in range(2)] == [3, 4]
    assert queue.dropped_total == 3


def test_back_off_grows_to_two_seconds_and_never_beyond() -> None:
    assert [backoff_s(n, lambda: 1.0) for n in range(6)] == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert backoff_s(3, lambda: 0.0) == 1.0
    assert backoff_s(10**9) <= 2.0


def test_urls() -> None:
    assert parse_url("mqtt://host") == BrokerUrl("host", 1883)
    assert parse_url("mqtts://host/") == BrokerUrl("host", 8883, tls=True)
    assert parse_url("mqtt://u%40x:p%3A%2F@[::1]:99") == BrokerUrl("::1", 99, False, "u@x", "p:/")
    assert parse_url("mqtt://u:p@h:1").shown == "mqtt://h:1"
    assert parse_url("mqtt://[::1]").shown == "mqtt://[::1]:1883"


@pytest.mark.parametrize(
    "url", ["", "host", "tcp://h", "mqtt://", "mqtt://h:0x1", "mqtt://h:70000", "mqtt://u:secret@h/x"]
)
def test_a_wrong_url_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_url(url)
    assert caught.value.field == "mqtt"
    assert "secret" not in caught.value.message


async def test_nothing_listens_there() -> None:
    with pytest.raises(aiomqtt.MqttError, match="refused"):
        async with MqttClient(BrokerUrl("127.0.0.1", free_port()), v5=True, queue=1):
            pass
