"""A saved session waits for a place: what a client steers meanwhile over MQTT is kept, and counts then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clients.steer import SteeredSession
from clients.steer.mqtt import Broker, MqttTransport
from engine.config import RuntimeConfig
from server.config import MqttOptions
from server.control.mqtt.embedded.builtin import EmbeddedBroker
from server.storage import StorageConfig
from tests.rigs.server.fake_device import FAKE
from tests.rigs.server.server_rig import config, live
from tests.rigs.waiting import LONG_S, until

KEY = "0123456789abcdeffedcba9876543210"


async def test_a_control_for_a_session_that_waits_counts_once_it_has_a_place(tmp_path: Path) -> None:
    async with EmbeddedBroker(0) as broker:
        settings = config(
            api_key=KEY,
            storage=StorageConfig(tmp_path.as_uri(), every_s=1.0),
            mqtt=broker.url,
            mqtt_options=MqttOptions(node="here"),
        )
        async with live(settings) as server:
            owner = {"Authorization": f"Bearer {KEY}"}
            made = (await server.http.post("/v1/sessions", json={"prompt": "x"}, headers=owner)).json()
            way = MqttTransport(Broker.parse(broker.url), made["id"], token=made["token"])
            client = SteeredSession(way)
            await client.__aenter__()
        refused: list[str] = []
        client.listen(lambda kind, told: refused.append(str(told.get("code"))) if kind == "receipt" else None)
        try:
            one = replace(FAKE, runtime=RuntimeConfig(max_sessions=1))
            async with live(replace(settings, worker=one)):
                first, second = client.prompt("a dog"), client.prompt("a cat")
                await until(lambda: "full" in refused, "a refusal", LONG_S)
                assert not first.settled
                assert not second.settled
            async with live(settings) as server:
                for sent in (first, second):
                    assert (await sent.received(LONG_S)).status != "rejected"
                log = server.services.gateway.session(made["id"]).answers
                assert {first.id, second.id} <= set(log)
        finally:
            await client.__aexit__(None, None, None)
