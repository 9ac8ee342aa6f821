"""Several servers on one mosquitto: restarts, states left by crashes, and MQTT 5 tools."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from engine.errors import InvalidInput
from engine.types import Pause, Prompt
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.commands import BURST
from server.control.mqtt.node import default_node
from server.control.mqtt.topics import Topics
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.control.mosquitto import Mosquitto, need_mosquitto, need_mosquitto_pub
from tests.rigs.control.network import Relay
from tests.rigs.control.onlooker import Onlooker, onlooker
from tests.rigs.waiting import until

NODES = ("anna", "ben", "zoe")


@dataclass
class Shop:
    """Three servers, each with `main` and a private session, and an observer of all of them."""

    steering: dict[str, FakeSteering]
    bridges: dict[str, MqttBridge]
    looker: Onlooker

    def controls(self) -> dict[str, list[str]]:
        return {n: [session for session, _ in s.controls] for n, s in self.steering.items() if s.controls}


@asynccontextmanager
async def three_servers(broker: Mosquitto) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        looker = await stack.enter_async_context(onlooker(broker.url, v5=True))
        steering = {node: FakeSteering("main", f"of-{node}") for node in NODES}
        bridges = {}
        for node in NODES:
            bridge = MqttBridge(steering[node], broker.url, node=node)
            bridges[node] = await stack.enter_async_context(bridge)
            assert await bridge.wait_connected(30)
        await until(lambda: settled(looker), "each server knows of the others")
        yield Shop(steering, bridges, looker)


def settled(looker: Onlooker) -> bool:
    """No state is retained for plain `main`, and all servers are online."""
    states = looker.received("session/main/state")
    online = [looker.received(f"engine/{node}/status") for node in NODES]
    return bool(states) and states[-1] == {} and all(heard and heard[-1]["sessions"] == 2 for heard in online)


async def test_each_server_obeys_commands_for_its_own_sessions_only(mosquitto: Mosquitto) -> None:
    async with three_servers(mosquitto) as shop:
        await shop.looker.command("prompt", '{"id": "p1", "text": "a fox"}', session="of-ben")
        await shop.looker.answer("applied", "of-ben/ack/all")
        await shop.looker.command("prompt", '{"id": "p2", "text": "a cat"}', session="main.zoe")
        await shop.looker.answer("applied", "main.zoe/ack/all")
        assert shop.controls() == {"ben": ["of-ben"], "zoe": ["main"]}
        answers = [m for m in shop.looker.messages if "/ack/" in str(m.topic) or "/error" in str(m.topic)]
        assert len(answers) == 4  # received and applied, and nothing from the others
        assert [b.status.rejected_total for b in shop.bridges.values()] == [0, 0, 0]


async def test_plain_main_is_refused_once_and_obeyed_by_no_server(mosquitto: Mosquitto) -> None:
    async with three_servers(mosquitto) as shop:
        await shop.looker.command("prompt", '{"id": "p1", "text": "a fox"}')
        refusal = await shop.looker.answer("rejected", "session/main/ack/all")
        assert refusal["code"] == "ambiguous"
        for node in NODES:
            assert f"session/main.{node}/cmd/prompt" in refusal["message"]
        await shop.looker.command("pause", '{"id": "p2"}', session="main.ben")
        await shop.looker.answer("applied", "main.ben/ack/all")
        assert shop.controls() == {"ben": ["main"]}
        assert len(shop.looker.received("session/main/ack/all")) == 1


async def test_the_end_of_one_leaves_the_others_online_and_the_last_one_gets_plain_main(
    mosquitto: Mosquitto,
) -> None:
    async with AsyncExitStack() as stack:
        looker = await stack.enter_async_context(onlooker(mosquitto.url))
        last = await stack.enter_async_context(MqttBridge(FakeSteering(), mosquitto.url, node="last"))
        assert await last.wait_connected(30)
        async with MqttBridge(FakeSteering(), mosquitto.url, node="first") as first:
            assert await first.wait_connected(30)
            await until(lambda: looker.received("session/main/state")[-1:] == [{}], "plain main is given up")
        await until(
            lambda: looker.received("first/status")[-1]["status"] == "offline", "the end of the first"
        )
        await until(
            lambda: looker.received("session/main/state")[-1].get("node") == "last", "plain main is back"
        )
        assert looker.received("last/status")[-1]["status"] == "online"
        await until(lambda: looker.received("main.first/state")[-1] == {}, "the end of its session")
        await looker.command("pause")
        await looker.answer("applied")


async def test_other_prefixes_are_other_worlds(mosquitto: Mosquitto) -> None:
    kitchen, lab = FakeSteering(), FakeSteering()
    async with (
        onlooker(mosquitto.url) as looker,
        MqttBridge(kitchen, mosquitto.url, node="a", prefix="psistream/kitchen") as one,
        MqttBridge(lab, mosquitto.url, node="a", prefix="psistream/lab") as two,
    ):
        assert await one.wait_connected(30)
        assert await two.wait_connected(30)
        assert one.addresses("main")["topic"] == "psistream/kitchen/session/main.a"
        await looker.say("psistream/kitchen/session/main/cmd/prompt", "a fox")
        await looker.answer("applied", "kitchen/session/main/ack/all")
        assert (len(kitchen.controls), len(lab.controls)) == (1, 0)
        assert not one.status.detail


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a//b", "a/+", "$SYS", "a b", "x" * 101, "a/" * 8 + "b"])
def test_a_prefix_that_cannot_be_one_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidInput, match="--mqtt-prefix"):
        Topics(prefix)


@pytest.mark.parametrize("node", ["a/b", "+", "x" * 49, "-a", "ä"])
async def test_a_node_that_cannot_be_one_is_refused(node: str) -> None:
    with pytest.raises(InvalidInput, match="--node"):
        MqttBridge(FakeSteering(), "mqtt://127.0.0.1", node=node)


def test_the_node_s_name_is_kept_and_two_servers_of_a_host_have_two(tmp_path: Path) -> None:
    with default_node(tmp_path) as first, default_node(tmp_path) as second:
        assert first != second
    with default_node(tmp_path) as again:
        assert again == first
    (tmp_path / "node-0").write_text("no such name/\n")
    with default_node(tmp_path) as mended:
        assert mended not in (first, "no such name/")
    with default_node(tmp_path / "node-0" / "not-a-folder") as unkept:
        assert unkept.rpartition("-")[0] == first.rpartition("-")[0]


# ---- ghosts ----


@pytest.mark.parametrize("v5", [True, False], ids=["5", "3.1.1"])
async def test_states_left_by_a_crash_are_cleared_by_the_next_start(
    mosquitto: Mosquitto, v5: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not v5:
        monkeypatch.setattr(MqttBridge, "MQTT_5", False)
    async with (
        Relay(mosquitto.port) as relay,
        onlooker(mosquitto.url) as looker,
        MqttBridge(FakeSteering("main", "lost"), relay.url, node="here") as bridge,
    ):
        assert await bridge.wait_connected(30)
        await until(lambda: looker.received("lost/state"), "a state is there")
        relay.cut()  # nothing can be published any more
    async with onlooker(mosquitto.url, v5=True) as looker:
        await until(lambda: looker.received("lost/state"), "its ghost is there after the crash")
        ghost = next(m for m in looker.messages if str(m.topic).endswith("lost/state"))
        expiry_s: int = getattr(ghost.properties, "MessageExpiryInterval", 0)
        assert 0 < expiry_s <= 300 if v5 else expiry_s == 0
        async with MqttBridge(FakeSteering("main"), mosquitto.url, node="there") as other:
            assert await other.wait_connected(30)
            await until(lambda: looker.received("there/status"), "another server is online")
        assert looker.received("lost/state")[-1]["id"] == "lost"  # another server's session
        async with MqttBridge(FakeSteering("main"), mosquitto.url, node="here") as again:
            assert await again.wait_connected(30)
            await until(lambda: looker.received("lost/state")[-1] == {}, "the ghost is gone")
            await until(lambda: looker.received("main.here/state")[-1].get("id") == "main", "its session")
    async with onlooker(mosquitto.url) as late:
        await until(lambda: late.received("here/status"), "what is retained")
        assert [str(m.topic) for m in late.messages if "/session/" in str(m.topic)] == []


# ---- MQTT 5 ----


async def test_mosquitto_rr_gets_its_receipt(mosquitto: Mosquitto) -> None:
    need_mosquitto_pub()
    assert shutil.which("mosquitto_rr")
    async with MqttBridge(FakeSteering(), mosquitto.url, node="here") as bridge:
        assert await bridge.wait_connected(30)
        topic = "psistream/v1/session/main/cmd/prompt"
        tail = ("-V", "5", "-t", topic, "-e", "game/answers", "-W", "5")
        for message in ("a fox in the snow", '{"id": "mine", "text": "a cat"}'):
            process = await asyncio.create_subprocess_exec(
                "mosquitto_rr",
                *("-p", str(mosquitto.port), *tail, "-m", message),
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await process.communicate()
            assert process.returncode == 0
            assert json.loads(out)["status"] == "received"


def publish_properties(**values: Any) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


async def test_answers_carry_mqtt_5_s_properties(mosquitto: Mosquitto) -> None:
    async with MqttBridge(FakeSteering(), mosquitto.url, node="here") as bridge:
        assert await bridge.wait_connected(30)
        async with onlooker(mosquitto.url, v5=True) as looker:
            asked = publish_properties(
                ResponseTopic="psistream/v1/session/main/ack/five",
                CorrelationData=b"\x00\xff",
                UserProperty=[("traceparent", "00-ab-cd-01"), ("twice", "1"), ("twice", "2")],
                ContentType="application/json",
                PayloadFormatIndicator=1,
            )
            await looker.say("psistream/v1/session/main/cmd/prompt", '{"text": "a fox"}', properties=asked)
            await looker.answer("applied", "ack/five")
            answers = [m.properties for m in looker.messages if str(m.topic).endswith("ack/five")]
            assert len(answers) == 2
            for properties in answers:
                told = vars(properties)
                assert told["CorrelationData"] == b"\x00\xff"
                assert told["UserProperty"] == vars(asked)["UserProperty"]
                assert told["ContentType"] == "application/json"
                assert told["PayloadFormatIndicator"] == 1
                assert 0 < told["MessageExpiryInterval"] <= 60


async def test_topic_aliases_change_nothing(mosquitto: Mosquitto) -> None:
    steering = FakeSteering()
    async with MqttBridge(steering, mosquitto.url, node="here") as bridge:
        assert await bridge.wait_connected(30)
        async with onlooker(mosquitto.url, v5=True) as looker:
            topic = "psistream/v1/session/main/cmd/prompt"
            await looker.say(topic, "a fox", properties=publish_properties(TopicAlias=1))
            await looker.say("", "a cat", properties=publish_properties(TopicAlias=1))
            await until(lambda: len(steering.controls) == 2, "both prompts")
    assert [control.body for _, control in steering.controls] == [Prompt("a fox"), Prompt("a cat")]


async def test_a_command_that_expired_on_the_broker_has_no_effect(mosquitto: Mosquitto) -> None:
    steering = FakeSteering()
    async with MqttBridge(steering, mosquitto.url, node="here") as bridge:
        assert await bridge.wait_connected(30)
        async with onlooker(mosquitto.url, v5=True) as looker:
            soon = publish_properties(MessageExpiryInterval=30)
            await looker.say("psistream/v1/session/main/cmd/pause", b"", properties=soon)
            await looker.answer("applied")
    assert [(c.body, c.expires_s is not None) for _, c in steering.controls] == [(Pause(), True)]


async def test_five_hundred_commands_at_once_get_five_hundred_receipts(mosquitto: Mosquitto) -> None:
    """Mosquitto queues 1000 messages for a client that does not read; a client that subscribes to everything
    would miss some."""
    async with (
        MqttBridge(FakeSteering(), mosquitto.url, node="here", clock=lambda: 0.0) as bridge,  # all at once
        onlooker(mosquitto.url, hears="psistream/v1/session/main/ack/game") as looker,
    ):
        assert await bridge.wait_connected(30)
        for number in range(500):
            message = {"id": f"a{number}", "action": "left", "client": "game"}
            topic = "psistream/v1/session/main/cmd/action"
            await looker.client.publish(topic, json.dumps(message), qos=0)
        await until(lambda: len({m["id"] for m in looker.received("ack/game")}) == 500, "500 receipts")
        limited = {m["id"] for m in looker.received("ack/game") if m["code"] == "rate_limited"}
        assert limited == {f"a{number}" for number in range(BURST, 500)}


async def test_a_publish_that_the_broker_s_acl_forbids_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    need_mosquitto()
    acl = tmp_path / "acl"
    acl.write_text("topic read psistream/#\ntopic write psistream/v1/session/+/cmd/#\n")
    with Mosquitto(tmp_path, f"acl_file {acl}", "user root") as broker:
        async with MqttBridge(FakeSteering("main", "other"), broker.url, node="here") as bridge:
            assert await bridge.wait_connected(30)
            await until(lambda: "check its ACL" in caplog.text, "a warning")
            await until(lambda: "ACL" in bridge.status.detail, "readyz tells as well")
    assert caplog.text.count("check its ACL") == 1
