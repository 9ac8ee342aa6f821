"""The embedded mosquitto: protocols, WebSockets, TLS, password, crashes, and when it is chosen."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.network.ports import free_port
from engine.errors import InvalidInput, Unavailable
from server.config import MqttListen, MqttOptions
from server.control.mqtt import service
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.connection.url import Reach
from server.control.mqtt.service import embedded_broker, open_mqtt
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.control.mosquitto import need_mosquitto
from tests.rigs.control.mqtt_clients import ANYWHERE, V3, V5, client, first, mosquitto, port_of
from tests.rigs.control.network import self_signed
from tests.rigs.control.onlooker import onlooker
from tests.rigs.waiting import until


async def test_mosquitto_speaks_mqtt_5() -> None:
    async with mosquitto() as broker, client(port_of(broker.shown), protocol=V5) as both:
        await both.subscribe("t", qos=1)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = b"k"
        await both.publish("t", b"x", qos=1, properties=properties)
        assert vars((await first(both)).properties)["CorrelationData"] == b"k"


@pytest.mark.parametrize("version", [V3, V5], ids=["3.1.1", "5"])
async def test_mosquitto_speaks_websockets(version: aiomqtt.ProtocolVersion) -> None:
    async with mosquitto() as broker:
        assert broker.websocket_url is not None
        url = urlsplit(broker.websocket_url)
        assert (url.scheme, url.hostname) == ("ws", "127.0.0.1")
        async with (
            client(url.port or 0, transport="websockets", protocol=version) as web,
            client(port_of(broker.shown), protocol=version) as game,
        ):
            await web.subscribe("t", qos=1)
            await game.publish("t", b"x", qos=1)
            assert bytes((await first(web)).payload) == b"x"


async def test_mosquitto_accepts_only_clients_with_the_password() -> None:
    async with mosquitto(MqttListen(port=0, websocket_port=0, user=("game", "s:same"))) as broker:
        for wrong in ({}, {"username": "game", "password": "sesame"}):
            with pytest.raises(aiomqtt.MqttError):
                async with client(port_of(broker.shown), **wrong):
                    pass
        async with (
            client(port_of(broker.shown), username="game", password="s:same"),
            MqttBridge(FakeSteering(), broker.url, reach=Reach(broker.shown)) as bridge,
        ):
            assert await bridge.wait_connected(30)
            assert "@" not in bridge.url


async def test_mosquitto_speaks_tls(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    listen = MqttListen(port=0, websocket_port=0, tls=(certificate, key), user=("game", "pass"))
    async with mosquitto(listen) as broker:
        assert broker.shown.startswith("mqtts://")
        assert (broker.websocket_url or "").startswith("wss://")
        trusted = aiomqtt.TLSParameters(ca_certs=str(certificate))
        for where, transport in ((broker.shown, "tcp"), (broker.websocket_url or "", "websockets")):
            user = {"username": "game", "password": "pass", "transport": transport}
            async with client(port_of(where), tls_params=trusted, **user):
                pass
        async with MqttBridge(FakeSteering(), broker.url) as bridge:
            assert await bridge.wait_connected(30)


async def test_mosquitto_is_restarted_on_the_same_ports_and_the_bridge_reconnects() -> None:
    async with mosquitto() as broker, MqttBridge(FakeSteering(), broker.url, node="here") as bridge:
        assert await bridge.wait_connected(30)
        shown, pid = broker.shown, broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: bridge.status.connects_total == 2, "connected again")
        assert broker.shown == shown
        async with onlooker(shown) as looker:
            await looker.command("pause")
            await looker.answer("applied")


async def test_mosquitto_avoids_ports_in_use(caplog: pytest.LogCaptureFixture) -> None:
    async with mosquitto() as first_, mosquitto() as second:
        wanted = MqttListen(port=port_of(first_.shown), websocket_port=port_of(second.shown))
        async with mosquitto(wanted) as third:
            ports = {port_of(u or "") for b in (first_, second, third) for u in (b.shown, b.websocket_url)}
            assert len(ports) == 6
            assert str(port_of(third.shown)) in caplog.text


async def test_mosquitto_that_cannot_start_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"cannot listen on 192\.0\.2\.1"):
        async with mosquitto(MqttListen(host="192.0.2.1", port=0)):
            pass
    (tmp_path / "cert").write_text("no certificate")
    tls = tmp_path / "cert", tmp_path / "cert"
    with pytest.raises(Unavailable, match=r"mosquitto does not start: .*SSL"):
        async with mosquitto(MqttListen(port=0, websocket_port=None, tls=tls)):
            pass


async def test_mosquitto_ends_with_a_server_that_is_killed() -> None:
    need_mosquitto()
    program = """
import asyncio
from server.control.mqtt.embedded.mosquitto import MosquittoBroker, find_mosquitto
from server.config import MqttListen
async def main():
    async with MosquittoBroker(find_mosquitto(), MqttListen(port=0, websocket_port=None)) as broker:
        print(broker.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    pid = int(await server.stdout.readline())
    server.kill()
    await server.wait()
    await until(lambda: not _runs(pid), "mosquitto ended")


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


# ---- the choice ----


async def test_mosquitto_is_chosen_if_it_is_installed() -> None:
    need_mosquitto()
    async with open_mqtt("embedded", FakeSteering(), MqttOptions(listen=ANYWHERE)) as bridge:
        assert bridge is not None
        assert bridge.status.state == "connected"
        assert "mosquitto" in bridge.greeting
        assert "MQTT 3.1.1, 5 and WebSockets" in embedded_broker()
        assert set(bridge.addresses("main")) == {"url", "websocket_url", "topic"}
        async with client(port_of(bridge.url), protocol=V5):
            pass


async def test_amqtt_is_chosen_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "find_mosquitto", lambda: None)
    async with open_mqtt("embedded:0", FakeSteering()) as bridge:
        assert bridge is not None
        assert "built in, MQTT 3.1.1" in bridge.greeting
        assert bridge.addresses("main")["websocket_url"] is None
        async with onlooker(bridge.url) as looker:
            await looker.command("pause")
            await looker.answer("applied")
    options = MqttOptions(listen=MqttListen(user=("a", "b")))
    with pytest.raises(InvalidInput, match="install mosquitto"):
        async with open_mqtt("embedded:0", FakeSteering(), options):
            pass


async def test_another_embedded_broker_s_port_is_not_ours(tmp_path: Path) -> None:
    need_mosquitto()
    port = free_port()
    listen = MqttListen(port=port, websocket_port=None)
    async with open_mqtt("embedded", FakeSteering(), MqttOptions(listen=listen)) as bridge:
        assert bridge is not None
        assert port_of(bridge.url) == port
