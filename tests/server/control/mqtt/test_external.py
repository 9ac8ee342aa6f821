"""The MQTT bridge with an external mosquitto: properties, lost connections, passwords, TLS."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.connection.patience import Patience
from tests.rigs.control.gateway import FakeSteering, segment_stats, session_info
from tests.rigs.control.mosquitto import Mosquitto, mosquitto_hash, need_mosquitto
from tests.rigs.control.network import Relay, self_signed
from tests.rigs.control.onlooker import onlooker
from tests.rigs.waiting import until


@pytest.fixture
def mosquitto(tmp_path: Path) -> Mosquitto:
    need_mosquitto()
    return Mosquitto(tmp_path)


async def test_mqtt_5_properties_count_as_well(mosquitto: Mosquitto) -> None:
    with mosquitto:
        async with MqttBridge(FakeSteering(), mosquitto.url) as bridge:
            assert await bridge.wait_connected(30)
            async with onlooker(mosquitto.url, v5=True) as looker:
                properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                properties.ResponseTopic = "psistream/v1/session/main/ack/five"
                properties.CorrelationData = b"\x01\x02"
                topic = "psistream/v1/session/main/cmd/pause"
                await looker.say(topic, properties=properties)
                await looker.answer("applied", "ack/five")
                answers = [m for m in looker.messages if str(m.topic).endswith("ack/five")]
                assert all(m.properties.CorrelationData == b"\x01\x02" for m in answers)  # type: ignore[union-attr]
                assert all(0 < m.properties.MessageExpiryInterval <= 60 for m in answers)  # type: ignore[union-attr]
                await looker.say(topic, "{}", retain=True)
                assert (await looker.answer("rejected"))["code"] == "retained"
                await looker.say(topic, "", retain=True)  # clearing it is fine, and silent
                properties.ResponseTopic = "$SYS/mine"
                await looker.say(topic, properties=properties)
                await until(lambda: len(looker.received("main/error")) == 2, "an error")
                assert looker.received("main/error")[-1]["field"] == "reply_to"


async def test_the_broker_dies_and_returns(mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    steering = FakeSteering()
    with mosquitto:
        async with MqttBridge(steering, mosquitto.url, node="here") as bridge:
            assert await bridge.wait_connected(30)
            mosquitto.kill()
            await until(lambda: bridge.status.state == "degraded", "degraded")
            assert bridge.status.detail
            for segment in range(1000):
                steering.emit(segment_stats(segment=segment))  # the session continues
            await asyncio.sleep(1.0)  # a few failed attempts
            mosquitto.start()
            assert await bridge.wait_connected(30)
            async with onlooker(mosquitto.url) as looker:
                await until(lambda: looker.received("main/state"), "the state is retained again")
                await looker.command("prompt", "and on it goes")
                await looker.answer("applied")
                assert not [m for m in looker.received("main/event") if m.get("type") == "segment"]  # stale
            assert bridge.status.connects_total == 2
            assert bridge.status.state == "connected"
    bridge_log = "server.control.mqtt.bridge"
    losses = [r for r in caplog.records if r.name == bridge_log and r.levelno == logging.WARNING]
    assert len(losses) == 1  # not one per attempt
    assert not [r for r in caplog.records if r.name == "asyncio" and r.levelno >= logging.WARNING]


async def test_a_broker_that_hangs_is_noticed_and_found_again(
    mosquitto: Mosquitto,
) -> None:
    """The socket stays open but carries nothing; only the timeout of a publish reveals it."""
    steering, patience = FakeSteering(), Patience(connect_s=1.0, answer_s=0.2)
    with mosquitto:
        async with (
            Relay(mosquitto.port) as relay,
            MqttBridge(steering, relay.url, patience=patience) as bridge,
        ):
            assert await bridge.wait_connected(30)
            relay.freeze()
            steering.emit(session_info(prompt="into the void"))
            await until(lambda: bridge.status.state == "degraded", "degraded")
            relay.heal()
            assert await bridge.wait_connected(30)
            async with onlooker(mosquitto.url) as looker:
                await looker.command("pause")
                await looker.answer("applied")


async def test_a_broker_that_is_down_at_start_is_found_later(mosquitto: Mosquitto) -> None:
    async with MqttBridge(FakeSteering(), mosquitto.url) as bridge:
        await until(lambda: bridge.status.state == "degraded", "degraded")
        with mosquitto:
            assert await bridge.wait_connected(30)
    assert bridge.status.state == "closed"


async def test_the_last_will_tells_of_a_server_that_is_cut_off(mosquitto: Mosquitto) -> None:
    with mosquitto:
        async with (
            Relay(mosquitto.port) as relay,
            onlooker(mosquitto.url) as looker,
            MqttBridge(FakeSteering(), relay.url, node="far"),
        ):
            for action, status in [(relay.heal, "online"), (relay.cut, "offline"), (relay.heal, "online")]:
                action()
                said = len(looker.received("far/status"))
                await until(lambda said=said: len(looker.received("far/status")) > said, status)  # type: ignore[misc]
                assert looker.received("far/status")[said]["status"] == status


async def test_leaving_clears_retained_states(mosquitto: Mosquitto) -> None:
    with mosquitto:
        async with onlooker(mosquitto.url) as looker:
            async with MqttBridge(FakeSteering(), mosquitto.url, node="here") as bridge:
                assert await bridge.wait_connected(30)
                await until(lambda: looker.received("main/state"), "a state")
            await until(lambda: looker.received("here/status")[-1]["status"] == "offline", "offline")
            await until(lambda: looker.received("main/state")[-1] == {}, "the end of the session")


async def test_a_wrong_password_is_reported_and_not_shown(tmp_path: Path) -> None:
    need_mosquitto()
    with Mosquitto(tmp_path, anonymous=False) as broker:
        url = broker.url.replace("mqtt://", "mqtt://user:sesame@")
        async with MqttBridge(FakeSteering(), url) as bridge:
            await until(lambda: bridge.status.state == "degraded", "degraded")
            assert "user name or password" in bridge.status.detail
            assert "sesame" not in f"{bridge.status}{bridge.url}{bridge._url!r}"


async def test_a_password_opens_the_door(tmp_path: Path) -> None:
    need_mosquitto()
    users = tmp_path / "users"
    users.write_text(f"user:{mosquitto_hash('s:same@')}\n")
    users.chmod(0o644)
    with Mosquitto(tmp_path, f"password_file {users}", "user root", anonymous=False) as broker:
        async with MqttBridge(FakeSteering(), broker.url.replace("//", "//user:s%3Asame%40@")) as bridge:
            assert await bridge.wait_connected(30)


async def test_mqtts_checks_the_broker_s_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_mosquitto()
    certificate, key = self_signed(tmp_path)
    config = (f"cafile {certificate}", f"certfile {certificate}", f"keyfile {key}", "user root")
    with Mosquitto(tmp_path, *config) as broker:
        url = broker.url.replace("mqtt:", "mqtts:")
        async with MqttBridge(FakeSteering(), url) as stranger:
            await until(lambda: stranger.status.state == "degraded", "an unknown certificate")
            assert "certificate" in stranger.status.detail
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with MqttBridge(FakeSteering(), url) as bridge:
            assert await bridge.wait_connected(30)
