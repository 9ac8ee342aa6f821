"""The MQTT bridge with both brokers: amqtt as the built-in one, and mosquitto."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiomqtt
import pytest

from engine.types import Action, Pause, Prompt, Reset, Resume
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.commands import BURST, RATE_HZ
from server.control.mqtt.embedded.builtin import EmbeddedBroker
from server.control.mqtt.service import open_mqtt
from tests.rigs.control.gateway import FakeSteering, segment_stats
from tests.rigs.control.mosquitto import Mosquitto, need_mosquitto, need_mosquitto_pub
from tests.rigs.control.onlooker import Onlooker, onlooker
from tests.rigs.waiting import until

Bridged = tuple[FakeSteering, MqttBridge, Onlooker]


@pytest.fixture(params=["amqtt", "mosquitto"])
async def bridged(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bridged]:
    """A connected bridge for the sessions `main` and `other`, and an observer on the same broker."""
    steering = FakeSteering("main", "other")
    if request.param == "amqtt":
        async with EmbeddedBroker(0) as embedded, MqttBridge(steering, embedded.url, node="here") as bridge:
            embedded.takes_retained = bridge.take_retained
            assert await bridge.wait_connected(30)
            async with onlooker(embedded.url) as looker:
                yield steering, bridge, looker
    else:
        need_mosquitto()
        with Mosquitto(tmp_path) as broker:
            async with MqttBridge(steering, broker.url, node="here") as bridge:
                assert await bridge.wait_connected(30)
                async with onlooker(broker.url) as looker:
                    yield steering, bridge, looker


async def test_a_prompt_is_received_and_applied(bridged: Bridged) -> None:
    steering, _, looker = bridged
    await looker.command("prompt", '{"id": "p1", "text": "a blue robot", "how": "cut"}')
    applied = await looker.answer("applied")
    received = await looker.answer("received")
    assert received["id"] == applied["id"] == "p1"
    assert (applied["segment"], applied["frame"]) == (4, 32)
    assert [(s, c.body) for s, c in steering.controls] == [("main", Prompt("a blue robot", "cut"))]
    order = [m["status"] for m in looker.received("/ack/all")]
    assert order == ["received", "applied"]


async def test_mosquitto_pub_habits_work(bridged: Bridged) -> None:
    """Plain text, bare words and empty messages, as people type them."""
    steering, _, looker = bridged
    await looker.command("prompt", "a green fox in the snow")
    await looker.command("action", "right")
    await looker.command("action", '"jump"')
    await looker.command("action", "null")
    await looker.command("pause")
    await looker.command("reset", "42")
    await until(lambda: len(steering.controls) == 6, "six controls")
    assert [control.body for _, control in steering.controls] == [
        Prompt("a green fox in the snow"),
        Action("right"),
        Action("jump"),
        Action(None),
        Pause(),
        Reset(42),
    ]
    await until(lambda: len(looker.received("/ack/all")) == 12, "twelve answers")
    ids = {control.id for _, control in steering.controls}
    assert len(ids) == 6
    assert {answer["id"] for answer in looker.received("/ack/all")} == ids  # made by the server


async def test_mosquitto_pub_itself_works_while_others_listen(bridged: Bridged) -> None:
    """The client disconnects as soon as it has sent its command. amqtt sent every new client the retained
    states of other clients' subscriptions; the client was already gone, and with the broken pipe the command
    was lost."""
    need_mosquitto_pub()
    steering, bridge, looker = bridged
    await until(lambda: looker.received("main/state"), "the onlooker has retained states")
    for number in range(5):
        pub = await asyncio.create_subprocess_exec(
            "mosquitto_pub",
            *("-p", bridge.url.rsplit(":", 1)[1], "-t", "psistream/v1/session/main/cmd/prompt"),
            *("-m", f"fox number {number}"),
        )
        assert await pub.wait() == 0
    await until(lambda: len(steering.controls) == 5, "five prompts")
    await looker.answer("applied")


async def test_clients_get_only_what_they_subscribed_to(bridged: Bridged) -> None:
    _, bridge, looker = bridged
    await until(lambda: looker.received("main/state"), "the onlooker has retained states")
    async with aiomqtt.Client("127.0.0.1", int(bridge.url.rsplit(":", 1)[1])) as stranger:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(stranger.messages)


async def test_state_is_retained_for_late_clients(bridged: Bridged) -> None:
    steering, bridge, looker = bridged
    await looker.command("prompt", "a yellow robot")
    await looker.answer("applied")
    await until(lambda: looker.received("main/state")[-1]["prompt"] == "a yellow robot", "the new state")
    async with onlooker(bridge.url) as late:
        for topic in ("main/state", "other/state", "engine/here/status"):
            await until(partial(late.received, topic), topic)
        assert late.received("main/state")[-1]["prompt"] == "a yellow robot"
        assert late.received("other/state")[-1]["id"] == "other"
        assert late.received("engine/here/status")[-1]["status"] == "online"
        assert all(message.retain for message in late.messages)
    steering.close("other")
    await until(lambda: looker.received("other/state")[-1] == {}, "the state is cleared")
    await until(lambda: any(e["type"] == "closed" for e in looker.received("other/event")), "its end")
    await until(lambda: looker.received("engine/here/status")[-1]["sessions"] == 1, "one session less")


async def test_bad_messages_are_answered_and_the_listener_lives_on(bridged: Bridged) -> None:
    """test_commands.py has every kind of error; these four take different paths through a broker."""
    steering, bridge, looker = bridged
    for verb, payload, field in [
        ("prompt", b'{"text": ', "message"),
        ("prompt", b"x" * 1_000_000, "message"),
        ("prompt", b"\xff\xfe\x00", "message"),
        ("explode", b"{}", "verb"),
    ]:
        looker.messages.clear()
        await looker.command(verb, payload)
        answer = await looker.answer("rejected")
        assert (answer["code"], answer["field"]) == ("invalid", field)
        assert answer["id"]
        await until(lambda: looker.received("main/error"), "the error topic")
        assert looker.received("main/error")[-1]["field"] == field
    await looker.command("pause", "", session="other")
    await looker.answer("applied", "other/ack/all")
    assert [session for session, _ in steering.controls] == ["other"]
    assert (bridge.status.rejected_total, bridge.status.received_total) == (4, 5)


async def test_an_unknown_session_is_named(bridged: Bridged) -> None:
    _, _, looker = bridged
    await looker.command("pause", session="nobody")
    answer = await looker.answer("rejected", "nobody/ack/all")
    assert answer["code"] == "unknown_session"
    assert "nobody" in answer["message"]


async def test_a_fault_in_the_gateway_is_answered_too(
    bridged: Bridged, caplog: pytest.LogCaptureFixture
) -> None:
    steering, _, looker = bridged
    steering.error = RuntimeError("boom")
    await looker.command("pause")
    answer = await looker.answer("rejected")
    assert answer["code"] == "internal"
    assert "boom" not in answer["message"]
    steering.error = None
    await looker.command("resume")
    await looker.answer("applied")


async def test_clients_receive_their_own_answers(bridged: Bridged) -> None:
    _, _, looker = bridged
    await looker.command("prompt", '{"id": "a", "text": "x", "client": "game-1"}')
    await looker.command("prompt", '{"id": "b", "text": "x", "reply_to": "game/2/inbox"}')
    assert (await looker.answer("applied", "ack/game-1"))["id"] == "a"
    await until(lambda: len(looker.received("main/event")) >= 2, "the events of both")
    assert looker.received("ack/all") == []
    assert looker.received("game/2/inbox") == []  # the onlooker hears psistream/# only


async def test_the_same_id_has_no_second_effect(bridged: Bridged) -> None:
    steering, _, looker = bridged
    await looker.command("prompt", '{"id": "once", "text": "x"}')
    await looker.answer("applied")
    await looker.command("prompt", '{"id": "once", "text": "x"}')
    await until(lambda: len(looker.received("ack/all")) == 3, "the earlier answer again")
    assert [m["status"] for m in looker.received("ack/all")] == ["received", "applied", "applied"]
    assert len(steering.controls) == 1


async def test_a_retained_command_is_refused_when_delivered_again(bridged: Bridged, tmp_path: Path) -> None:
    """Otherwise an old pause would stop the video at every restart of the server."""
    steering, bridge, looker = bridged
    await looker.say("psistream/v1/session/main/cmd/pause", b"{}", retain=True)
    await until(lambda: looker.received("ack/all"), "an answer")
    before = len(steering.controls)
    async with MqttBridge(steering, bridge.url, node="again") as second:
        assert await second.wait_connected(30)
        await looker.command("resume", "", session="other")
        await until(lambda: len(steering.controls) > before, "a control that is not retained")
    assert all(session == "other" for session, _ in steering.controls[before:])
    await looker.say("psistream/v1/session/main/cmd/pause", b"", retain=True)


async def test_a_retained_command_is_refused_when_it_is_published() -> None:
    """The server's own broker does not store it."""
    steering = FakeSteering()
    async with open_mqtt("embedded:0", steering) as bridge:
        assert bridge is not None
        async with onlooker(bridge.url) as looker:
            await looker.say("psistream/v1/session/main/cmd/pause", '{"id": "p"}', retain=True)
            refused = await looker.answer("rejected")
            assert (refused["id"], refused["code"]) == ("p", "retained")
            await until(lambda: looker.received("main/error"), "the error topic")
            assert [m["code"] for m in looker.received("main/error")] == ["retained"]
            await looker.command("resume")
            await looker.answer("applied")
            assert [c.body for _, c in steering.controls] == [Resume()]
        async with onlooker(bridge.url) as late:
            await until(lambda: late.received("main/state"), "what is retained")
            assert not late.received("cmd/pause")


async def test_figures_and_changes_are_sent_as_events(bridged: Bridged) -> None:
    steering, _, looker = bridged
    steering.emit(segment_stats(segment=9))
    await until(lambda: looker.received("main/event"), "an event")
    event = looker.received("main/event")[0]
    assert (event["type"], event["segment"], event["timings_ms"]["total"]) == ("segment", 9, 200.0)


async def test_a_flood_is_limited_and_passes(bridged: Bridged) -> None:
    steering, bridge, looker = bridged
    steering.applies = False
    began_s = time.monotonic()
    for _ in range(400):
        await looker.client.publish("psistream/v1/session/main/cmd/action", "left", qos=0)
    await until(lambda: bridge.status.received_total + bridge.status.dropped_total >= 400, "all messages")
    assert 120 <= len(steering.controls) <= BURST + RATE_HZ * (time.monotonic() - began_s)
    limited = [m for m in looker.received("main/error") if m["code"] == "rate_limited"]
    assert len(limited) <= 20 + (time.monotonic() - began_s) * 5
    await asyncio.sleep(0.1)
    await looker.command("pause", "", session="other")
    await looker.answer("received", "other/ack/all")
