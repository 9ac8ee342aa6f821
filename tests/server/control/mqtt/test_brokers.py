"""The two brokers that `--mqtt embedded` starts: what clients of both get, and what only amqtt does.

docs/protocol.md has a table of these tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiomqtt
import pytest

from server.control.mqtt.embedded.builtin import EmbeddedBroker
from server.control.mqtt.embedded.limits import BrokerLimits
from tests.rigs.control.mqtt_clients import V5, client, first, mosquitto, port_of
from tests.rigs.waiting import until


@pytest.fixture(params=["amqtt", "mosquitto"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """The topics of a running embedded broker."""
    async with AsyncExitStack() as stack:
        if request.param == "amqtt":
            yield (await stack.enter_async_context(EmbeddedBroker(0))).port
        else:
            yield port_of((await stack.enter_async_context(mosquitto())).shown)


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("subscribed", [0, 1, 2])
async def test_the_lower_qos_of_publisher_and_subscriber_applies(
    port: int, published: int, subscribed: int
) -> None:
    """amqtt itself uses the subscriber's QoS, whatever the publisher's was."""
    async with client(port) as subscriber, client(port) as publisher:
        await subscriber.subscribe("t", qos=subscribed)
        await publisher.publish("t", b"x", qos=published)
        assert (await first(subscriber)).qos == min(published, subscribed)


async def test_a_persistent_session_gets_messages_published_while_offline(port: int) -> None:
    async with client(port, identifier="game", clean_session=False) as game:
        await game.subscribe("t", qos=1)
    async with client(port) as publisher:
        for number in range(3):
            await publisher.publish("t", str(number), qos=1)
    async with client(port, identifier="game", clean_session=False) as game:
        came = [await first(game) for _ in range(3)]
    assert [(bytes(m.payload), m.retain) for m in came] == [(b"0", False), (b"1", False), (b"2", False)]


async def test_a_clean_session_forgets(port: int) -> None:
    async with client(port, identifier="game", clean_session=True) as game:
        await game.subscribe("t", qos=1)
    async with client(port) as publisher:
        await publisher.publish("t", "missed", qos=1)
    async with client(port, identifier="game", clean_session=True) as game:
        await game.subscribe("u", qos=1)
        await game.publish("u", "marker", qos=1)
        assert str((await first(game)).topic) == "u"


async def test_retained_messages_and_the_last_will(port: int) -> None:
    will = aiomqtt.Will("status", b"offline", qos=1, retain=True)
    async with client(port) as witness:
        await witness.subscribe("status", qos=1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_connect_with_will(will))
        assert (await reader.readexactly(4))[
            3
        ] == 0  # accepted: what it has not read, a reset would take away
        writer.transport.abort()
        assert bytes((await first(witness)).payload) == b"offline"
    async with client(port) as late:
        await late.subscribe("status", qos=1)
        message = await first(late)
        assert (bytes(message.payload), message.retain) == (b"offline", True)


def _connect_with_will(will: aiomqtt.Will) -> bytes:
    def text(value: bytes) -> bytes:
        return len(value).to_bytes(2, "big") + value

    flags = 0b0010_0110 | will.qos << 3  # will retained, will, clean session
    body = text(b"MQTT") + bytes((4, flags)) + b"\x00\x3c" + text(b"dies")
    body += text(will.topic.encode()) + text(bytes(will.payload or b""))  # type: ignore[arg-type]
    return bytes((0x10, len(body))) + body


# ---- amqtt ----


@pytest.mark.parametrize("version", [3, 5, 6])
async def test_amqtt_refuses_other_protocols_in_their_own_form(version: int) -> None:
    """amqtt itself sends nothing that an MQTT 5 client understands, so the client waits for 20 s."""
    async with EmbeddedBroker(0) as broker:
        if version == 5:
            with pytest.raises(aiomqtt.MqttError, match="Unsupported protocol version"):
                async with client(broker.port, protocol=V5, timeout=20):
                    pass
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        properties = b"\x00" if version == 5 else b""
        body = b"\x00\x04MQTT" + bytes((version, 2)) + b"\x00\x3c" + properties + b"\x00\x01a"
        writer.write(bytes((0x10, len(body))) + body)
        answer = await reader.read()
        assert answer == (b"\x20\x03\x00\x84\x00" if version == 5 else b"\x20\x02\x00\x01")
        writer.close()


async def test_amqtt_keeps_so_many_messages_and_clients_that_are_away() -> None:
    async with EmbeddedBroker(0, BrokerLimits(waiting=2, away=1)) as broker:
        for name in ("first", "second"):
            async with client(broker.port, identifier=name, clean_session=False) as game:
                await game.subscribe("t", qos=1)
        await until(lambda: broker.connections == 0, "both are away")
        async with client(broker.port) as publisher:
            for number in range(4):
                await publisher.publish("t", str(number), qos=1)
        async with client(broker.port, identifier="second", clean_session=False) as game:
            assert [bytes((await first(game)).payload) for _ in range(2)] == [b"2", b"3"]
        async with client(broker.port, identifier="first", clean_session=False) as game:
            with pytest.raises(TimeoutError):
                await first(game, 0.3)


async def test_amqtt_keeps_so_much_that_is_retained() -> None:
    """200 messages of 1 MB used to take 196 MB."""
    limits = BrokerLimits(retained=3, retained_bytes=100)
    async with EmbeddedBroker(0, limits) as broker, client(broker.port) as game:
        await game.publish("own", b"here", qos=1, retain=True)
        for number in range(5):
            await game.publish(f"large/{number}", bytes(60), qos=1, retain=True)
        for number in range(5):
            await game.publish(f"small/{number}", b"x", qos=1, retain=True)
        await game.publish("own", b"again", qos=1, retain=True)
        async with client(broker.port) as reader:
            await reader.subscribe("#", qos=1)
            found = [await first(reader) for _ in range(3)]
            assert {str(m.topic) for m in found} == {"own", "large/0", "small/0"}
            assert {bytes(m.payload) for m in found if str(m.topic) == "own"} == {b"again"}
            with pytest.raises(TimeoutError):
                await first(reader, 0.3)
