"""MQTT features that clients may rely on, with both embedded brokers, and the table in docs/protocol.md."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from server.config import MqttListen, MqttOptions
from server.control.mqtt.service import open_mqtt
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.control.mosquitto import need_mosquitto
from tests.rigs.control.mqtt_clients import V5, client
from tests.rigs.control.onlooker import onlooker
from tests.rigs.paths import ROOT
from tests.rigs.waiting import until

ANYWHERE = MqttOptions(node="here", listen=MqttListen(port=0, websocket_port=0))
ON_AMQTT = MqttOptions(node="here", listen=MqttListen(port=0))


@pytest.fixture(params=["amqtt", "mosquitto"])
async def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Of a server's own broker."""
    if request.param == "mosquitto":
        need_mosquitto()
        options = ANYWHERE
    else:
        monkeypatch.setattr("server.control.mqtt.service.find_mosquitto", lambda: None)
        options = ON_AMQTT
    async with open_mqtt("embedded", FakeSteering(), options) as bridge:
        assert bridge is not None
        assert await bridge.wait_connected(30)
        yield int(bridge.url.rsplit(":", 1)[1])


async def test_a_prompt_is_received_and_applied_on_either_broker(port: int) -> None:
    async with onlooker(f"mqtt://127.0.0.1:{port}") as looker:
        await looker.command("prompt", json.dumps({"id": "p1", "client": "me", "text": "a fox"}))
        assert (await looker.answer("applied", "/ack/me"))["id"] == "p1"
        await until(lambda: looker.received("/main/state")[-1]["prompt"] == "a fox", "the retained state")


async def test_each_of_many_commands_at_once_gets_a_receipt_on_either_broker(port: int) -> None:
    """Commands beyond the rate limit get one too."""
    async with client(port) as game:
        await game.subscribe("psistream/v1/session/main/ack/me", qos=1)
        for i in range(300):
            body = json.dumps({"id": f"c{i}", "client": "me", "action": "left"})
            await game.publish("psistream/v1/session/main/cmd/action", body, qos=1)
        answered: set[str] = set()
        async with asyncio.timeout(60):
            async for message in game.messages:
                answered.add(json.loads(bytes(message.payload))["id"])
                if len(answered) == 300:
                    break


async def test_a_command_that_is_retained_is_refused_on_either_broker(port: int) -> None:
    async with onlooker(f"mqtt://127.0.0.1:{port}") as looker:
        await looker.say("psistream/v1/session/main/cmd/pause", '{"id": "r1", "client": "me"}', retain=True)
        answer = await looker.answer("rejected", "/ack/me")
        assert (answer["id"], answer["code"]) == ("r1", "retained")


@pytest.mark.parametrize("port", ["mosquitto"], indirect=True)
async def test_mosquitto_drops_a_client_that_is_silent_and_tells_its_last_will(port: int) -> None:
    connect = (
        b"\x00\x04MQTT\x04\x06\x00\x01\x00\x04mute\x00\x04will\x00\x04gone"  # keepalive 1 s, clean, will
    )
    async with client(port) as other:
        await other.subscribe("will", qos=1)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes([0x10, len(connect)]) + connect)
        async with asyncio.timeout(60):
            message = await anext(other.messages)
        assert message.payload == b"gone"
        writer.close()


@pytest.mark.parametrize("port", ["mosquitto"], indirect=True)
async def test_shared_subscriptions_give_each_event_to_one_of_a_group(port: int) -> None:
    async with client(port, protocol=V5) as one, client(port, protocol=V5) as two:
        heard: list[bytes] = []

        async def listen(each: object) -> None:
            async for message in each.messages:  # type: ignore[attr-defined]
                heard.append(bytes(message.payload))

        for each in (one, two):
            await each.subscribe("$share/games/psistream/v1/session/main/ack/shared", qos=1)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(listen(each)) for each in (one, two)]
            async with client(port, protocol=V5) as sender:
                for i in range(10):
                    body = json.dumps({"id": f"s{i}", "client": "shared"})
                    await sender.publish("psistream/v1/session/main/cmd/pause", body, qos=1)
            await until(lambda: len(heard) >= 20, "two receipts for each of ten commands")
            for task in tasks:
                task.cancel()
        assert len(heard) == len(set(heard)) == 20


@pytest.mark.parametrize("port", ["mosquitto"], indirect=True)
async def test_subscription_identifiers_come_back_with_receipts(port: int) -> None:
    async with client(port, protocol=V5) as game:
        properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
        properties.SubscriptionIdentifier = 7
        await game.subscribe("psistream/v1/session/main/ack/me", qos=1, properties=properties)
        await game.publish("psistream/v1/session/main/cmd/pause", '{"client": "me"}', qos=1)
        async with asyncio.timeout(30):
            message = await anext(game.messages)
        assert message.properties is not None
        assert message.properties.json()["SubscriptionIdentifier"] == [7]  # type: ignore[no-untyped-call]


def test_the_table_names_existing_tests() -> None:
    """Every feature that works with any broker names its test."""
    text = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    table = text.split("### What works with which broker\n", 1)[1]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line
    ]
    assert len(rows) > 20
    known = "".join(
        file.read_text("utf-8") for file in (ROOT / "tests/server/control/mqtt").glob("test_*.py")
    )
    for feature, *_, test in rows[2:]:
        (name,) = re.findall(r"^`(test_\w+)`$", test)
        assert f"def {name}(" in known, feature
