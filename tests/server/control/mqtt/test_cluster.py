"""Gateways of one cluster on one broker: each hears of its own sessions only, and there is one `main`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.types import SessionClosed
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.publisher import Publisher
from tests.rigs.control.gateway import FakeSteering, session_info
from tests.rigs.control.mosquitto import Mosquitto
from tests.rigs.control.mqtt_desk import Desk
from tests.rigs.control.onlooker import Onlooker, onlooker
from tests.rigs.server.cluster_rig import opened as opened_at
from tests.rigs.server.cluster_rig import two
from tests.rigs.waiting import until


@asynccontextmanager
async def gateway(broker: Mosquitto, steering: FakeSteering, node: str) -> AsyncIterator[MqttBridge]:
    async with MqttBridge(steering, broker.url, node=node, owner_of=lambda session: None) as bridge:
        assert await bridge.wait_connected(30)
        yield bridge


def opened(steering: FakeSteering, session: str) -> None:
    steering.infos[session] = session_info(session)
    steering.emit(steering.infos[session])


def taken(steering: FakeSteering, session: str) -> None:
    """Another gateway has claimed it."""
    del steering.infos[session]
    steering.emit(SessionClosed(session, "fenced", "another gateway has taken the session over"))


async def test_each_gateway_gets_the_commands_of_its_own_sessions_only(mosquitto: Mosquitto) -> None:
    first, second = FakeSteering("main", "g1-a"), FakeSteering("g2-b")
    async with (
        onlooker(mosquitto.url) as looker,
        gateway(mosquitto, first, "g1") as one,
        gateway(mosquitto, second, "g2") as two,
    ):
        for session in ("g1-a", "main", "main.g1", "g2-b"):
            await looker.command("pause", '{"client": "c"}', session=session)
            await until(lambda s=session: looker.received(f"{s}/ack/c"), f"receipt of {session}")  # type: ignore[misc]
        assert [session for session, _ in first.controls] == ["g1-a", "main", "main"]
        assert [session for session, _ in second.controls] == ["g2-b"]
        assert (one.status.received_total, two.status.received_total) == (3, 1)
        states = looker.received("session/main/state")
        assert {state["node"] for state in states} == {"g1"}  # the gateways are one server: main stays main


async def test_exactly_one_gateway_answers_for_sessions_that_none_has(mosquitto: Mosquitto) -> None:
    """Nobody did: each heard of its own sessions only."""
    first, second = FakeSteering("g1-a"), FakeSteering("main", "g2-b")
    async with onlooker(mosquitto.url) as looker, gateway(mosquitto, second, "g2"):

        async def refused(*sessions: str) -> None:
            """Each is answered, and once: the last one tells that the others' answers are there."""
            for session in sessions:
                await looker.command("pause", f'{{"client": "{session}"}}', session=session)
            await until(lambda: looker.received(f"/ack/{sessions[-1]}"), "answer to the last")
            for session in sessions:
                (answer,) = looker.received(f"{session}/ack/{session}")
                assert (answer["status"], answer["code"]) == ("rejected", "unknown_session")
                assert len(looker.received(f"session/{session}/error")) == 1

        await until(lambda: names(looker, "g2", "g2-b"), "names")
        async with gateway(mosquitto, first, "g1") as one:
            await until(lambda: names(looker, "g1", "g1-a"), "names")
            for session in ("g1-a", "g2-b"):
                await looker.command("pause", '{"client": "own"}', session=session)
                await until(lambda at=f"{session}/ack/own": looker.received(at), "receipt")  # type: ignore[misc]
            await heard_by(looker, "probe-of-g1")
            await refused("g1-gone", "g2-gone", "main.g1", "nobody")
            assert (
                "publish to psistream/v1/session/main/cmd/pause"
                in looker.received("main.g1/error")[0]["message"]
            )
            assert "rejected" not in [m["status"] for m in looker.received("/ack/own")]
            assert one.status.rejected_total >= 4
        await heard_by(looker, "probe-of-g2")  # the first one is gone
        await refused("g1-late", "last")


def names(looker: Onlooker, node: str, session: str) -> bool:
    """Whether this gateway has told that it has the session."""
    return any(
        session in told.get("sessions", []) for told in looker.received(f"engine/{node}/sessions")[-1:]
    )


async def heard_by(looker: Onlooker, probe: str) -> None:
    """Wait until somebody answers for sessions that nobody has: a gateway that has just come or gone is not
    known to the others at once."""

    async def ask() -> None:
        while True:
            await looker.command("pause", f'{{"client": "{probe}"}}', session="probe")
            await asyncio.sleep(0.2)

    asking = asyncio.create_task(ask())
    await until(lambda: looker.received(f"probe/ack/{probe}"), "an answer")
    asking.cancel()


async def test_a_session_that_was_just_opened_is_heard_at_once(mosquitto: Mosquitto) -> None:
    steering = FakeSteering("main")
    async with onlooker(mosquitto.url) as looker, gateway(mosquitto, steering, "g1") as bridge:
        for name in [f"g1-{n}" for n in range(150)]:
            opened(steering, name)
        await bridge.subscribed()
        await looker.command("pause", '{"client": "c"}', session="g1-149")
        await until(lambda: looker.received("g1-149/ack/c"), "receipt")


async def test_a_session_that_moves_takes_its_topics_along(mosquitto: Mosquitto) -> None:
    """The loser neither clears what the other one publishes, nor answers for it any more."""
    first, second = FakeSteering("main", "g1-a", "g1-b"), FakeSteering()
    second.infos.clear()
    async with (
        onlooker(mosquitto.url) as looker,
        gateway(mosquitto, first, "g1") as one,
        gateway(mosquitto, second, "g2") as two,
    ):
        await until(lambda: looker.received("g1-a/state"), "state of the first")
        for session in ("g1-a", "main"):
            opened(second, session)
            taken(first, session)
        await until(lambda: looker.received("g1-a/state")[-1].get("node") == "g2", "state of the second")
        await until(lambda: looker.received("session/main.g1/state")[-1] == {}, "the end of main.g1")
        await until(lambda: looker.received("session/main.g2/state"), "main.g2")
        await one.subscribed()
        await two.subscribed()
        for session in ("g1-a", "main"):
            await looker.command("pause", '{"client": "c"}', session=session)
            await until(lambda s=session: looker.received(f"{s}/ack/c"), "receipt")  # type: ignore[misc]
        assert not first.controls
        assert [session for session, _ in second.controls] == ["g1-a", "main"]
        assert {} not in looker.received("g1-a/state") + looker.received("session/main/state")
        assert all(event["type"] != "closed" for event in looker.received("g1-a/event"))
        await until(lambda: looker.received("engine/g1/sessions")[-1]["sessions"] == ["g1-b"], "names")
        first.close("g1-b")
        await until(lambda: looker.received("g1-b/state")[-1] == {}, "the end of a session")


async def test_a_gateway_after_a_crash_clears_only_what_nobody_has(mosquitto: Mosquitto) -> None:
    desk = Desk("main", "g1-mine", node="g1", member=True)
    left = ["g1-mine", "g1-moved", "g1-ended", "main", "main.g1"]
    publisher = Publisher(
        desk.steering,
        desk.outbox,
        desk.topics,
        desk.servers,
        lambda: None,
        elsewhere=lambda session: session in ("g1-moved", "main"),
    )
    del desk.steering.infos["main"]
    publisher.clear_ghosts(left)
    publisher.put_everything_retained()
    sent = {m.topic.removeprefix("psistream/v1/"): m.payload for m in desk.sent()}
    assert b"g1-ended" in sent["engine/g1/sessions"]  # should it crash again
    assert not [topic for topic, payload in sent.items() if not payload]
    publisher.renew()
    cleared = [m.topic for m in desk.sent() if not m.payload]
    assert cleared == ["psistream/v1/session/g1-ended/state"]


def test_gateways_of_a_cluster_share_plain_main_but_not_with_other_servers() -> None:
    desk = Desk("main", node="g1", member=True)
    desk.hear_node("g2", "online", cluster=True)
    assert desk.servers.names_of("main") == ["main.g1", "main"]
    desk.hear_node("stranger", "online")
    assert desk.servers.names_of("main") == ["main.g1"]
    alone = Desk("main")
    alone.hear_node("g2", "online", cluster=True)
    assert alone.servers.names_of("main") == ["main.node"]


async def test_a_session_opened_over_http_is_steered_by_mqtt_at_once(mosquitto: Mosquitto) -> None:
    async with onlooker(mosquitto.url) as looker, two(mqtt=mosquitto.url) as (g1, g2):
        for gateway in (g1, g2):
            bridge = gateway.services.mqtt
            assert bridge is not None
            assert await bridge.wait_connected(30)
            assert bridge.node == gateway.gateway.peers.name
            session, own = await opened_at(gateway)
            await looker.command("prompt", '{"text": "a fox", "client": "c"}', session=session)
            await until(lambda s=session: looker.received(f"{s}/ack/c"), "receipt")  # type: ignore[misc]
            assert looker.received(f"{session}/ack/c")[0]["status"] == "received"
            told = (await g1.http.get(f"/v1/sessions/{session}", headers=own)).json()["mqtt"]
            assert told["topic"] == f"psistream/v1/session/{session}"
