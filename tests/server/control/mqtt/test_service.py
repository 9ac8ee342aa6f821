"""The values of `--mqtt`, and what they start."""

from __future__ import annotations

import pytest

from engine.errors import InvalidInput
from server.control.mqtt.embedded.builtin import EmbeddedBroker
from server.control.mqtt.service import open_mqtt
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.control.onlooker import onlooker


async def test_open_mqtt_gives_an_embedded_broker_that_works() -> None:
    async with open_mqtt("embedded:0", FakeSteering()) as bridge:
        assert bridge is not None
        assert bridge.status.state == "connected"
        async with onlooker(bridge.url) as looker:
            await looker.command("pause")
            await looker.answer("applied")


async def test_an_occupied_port_moves_the_broker(caplog: pytest.LogCaptureFixture) -> None:
    async with EmbeddedBroker(0) as first, EmbeddedBroker(first.port) as second:
        assert second.port != first.port
        assert str(second.port) in caplog.text
        async with onlooker(second.url):
            pass


@pytest.mark.parametrize(
    "setting",
    [
        "",
        "on",
        "mqtt://",
        "http://host",
        "mqtt://host:99999",
        "mqtt://host/path",
        "embedded:x",
        "embedded:70000",
    ],
)
async def test_an_invalid_setting_names_the_valid_ones(setting: str) -> None:
    with pytest.raises(InvalidInput, match=r"mqtt|embedded") as caught:
        async with open_mqtt(setting, FakeSteering()):
            pass
    assert caught.value.field == "mqtt"


async def test_off_is_off() -> None:
    steering = FakeSteering()
    async with open_mqtt("off", steering) as bridge:
        assert bridge is None
    assert steering.listeners == 0
