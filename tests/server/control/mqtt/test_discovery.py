"""MQTT discovery for Home Assistant: messages contain documented fields only, and the templates render
correctly."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
from PIL import Image

from engine.types import Action, Pause, Prompt, Reset, Resume, Rewind, Stall
from engine.wire.strict_json import dump
from server.config import MqttOptions
from server.control.mqtt.bridge import MqttBridge
from server.control.mqtt.discovery import HomeAssistant
from server.control.mqtt.topics import Topics
from server.control.protocol import event_json
from tests.rigs.control.gateway import FakeSteering, segment_stats, session_info
from tests.rigs.control.mosquitto import Mosquitto, need_mosquitto
from tests.rigs.control.onlooker import Onlooker, onlooker
from tests.rigs.server.server_rig import config, live
from tests.rigs.waiting import until

# https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery and the page of each component, 2026-11
ACTIONS = ("idle", "left", "right", "jump")
COMMON = {
    "name",
    "unique_id",
    "default_entity_id",
    "availability_topic",
    "availability_template",
    "payload_available",
    "payload_not_available",
    "device",
    "origin",
    "icon",
    "qos",
}
DOCUMENTED = {
    "text": {"command_topic", "state_topic", "value_template", "max", "min", "mode", "pattern", "retain"},
    "select": {"command_topic", "state_topic", "value_template", "options", "retain"},
    "button": {"command_topic", "payload_press", "device_class", "retain"},
    "sensor": {
        "state_topic",
        "value_template",
        "state_class",
        "device_class",
        "unit_of_measurement",
        "suggested_display_precision",
        "options",
        "expire_after",
    },
}
DOCUMENTED["image"] = {"image_topic", "url_topic", "url_template", "content_type", "image_encoding"}
REQUIRED = {
    "image": {"image_topic"},
    "text": {"command_topic"},
    "select": {"command_topic", "options"},
    "button": {"command_topic"},
    "sensor": {"state_topic"},
}
DEVICE = {"identifiers", "name", "manufacturer", "model", "sw_version", "configuration_url"}


def configurations(node: str = "here.b") -> dict[str, dict[str, Any]]:
    """By component and name."""
    made = {}
    for message in HomeAssistant(Topics(), node, 16, ACTIONS).messages():
        root, component, device, name, config = message.topic.split("/")
        assert (root, config, message.retain) == ("homeassistant", "config", True)
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", device), "Home Assistant's rule for node ids"
        made[f"{component}/{name}"] = json.loads(message.payload)
    return made


def test_every_entity_has_only_documented_and_all_required_fields() -> None:
    for key, fields in configurations().items():
        component = key.partition("/")[0]
        assert set(fields) <= COMMON | DOCUMENTED[component], key
        assert set(fields) >= REQUIRED[component], key
        assert set(fields["device"]) <= DEVICE
        assert re.fullmatch(component + r"\.psistream_here_b_[a-z]+", fields["default_entity_id"])
        assert fields["availability_topic"] == "psistream/v1/engine/here.b/status"


def test_ids_are_unique_over_servers() -> None:
    ids = [fields["unique_id"] for node in ("a", "b") for fields in configurations(node).values()]
    assert len(set(ids)) == len(ids)


def shown(key: str, message: dict[str, Any], before: str = "unknown") -> str:
    """What Home Assistant shows for a message, rendered with its template language (jinja2)."""
    template = configurations()[key]["value_template"]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    value = json.loads(dump(message))
    return environment.from_string(template).render(value_json=value, this={"state": before})


def test_the_templates_show_the_session() -> None:
    state = event_json(session_info(prompt="a fox " * 100))
    assert shown("text/prompt", state) == ("a fox " * 100)[:255]
    assert shown("select/action", state) == "none"
    assert shown("select/action", {**state, "action": "left"}) == "left"
    assert shown("sensor/viewers", state) == "0"
    assert shown("sensor/state", state) == "playing"
    assert shown("sensor/state", {**state, "paused": True}) == "paused"
    assert shown("sensor/state", event_json(session_info(buffering=Stall(0.1, 0.2, 3)))) == "stalled"
    assert shown("sensor/fps", event_json(segment_stats(rate=0.5))) == "8.0"
    assert shown("sensor/fps", {"type": "receipt", "status": "applied"}, before="16.0") == "16.0"
    assert shown("sensor/fps", {"type": "receipt"}, before="unknown") == "unknown"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[tuple[FakeSteering, Onlooker]]:
    need_mosquitto()
    steering = FakeSteering()
    with Mosquitto(tmp_path) as broker:
        discovery = HomeAssistant(Topics(), "here", 16, ACTIONS)
        async with MqttBridge(steering, broker.url, node="here", discovery=discovery) as bridge:
            assert await bridge.wait_connected(30)
            async with onlooker(broker.url) as looker:
                await looker.client.subscribe("homeassistant/#", qos=1)
                yield steering, looker


async def test_home_assistant_steers_with_the_discovered_entities(
    home: tuple[FakeSteering, Onlooker],
) -> None:
    steering, looker = home

    def configured(component: str, name: str) -> dict[str, Any]:
        found = looker.received(f"{component}/psistream_here/{name}/config")
        return found[-1] if found else {}

    await until(lambda: configured("sensor", "viewers"), "the discovery messages are retained")
    for component, name, payload in (
        ("text", "prompt", "a fox in the snow"),
        ("select", "action", "left"),
        ("select", "action", "none"),
        *(
            ("button", name, configured("button", name)["payload_press"])
            for name in ("pause", "resume", "reset")
        ),
        ("button", "rewind", configured("button", "rewind")["payload_press"]),
    ):
        await looker.say(configured(component, name)["command_topic"], payload)
    await until(lambda: len(steering.controls) == 7, "seven controls")
    bodies = [control.body for _, control in steering.controls]
    assert bodies == [
        Prompt("a fox in the snow"),
        Action("left"),
        Action(None),
        Pause(),
        Resume(),
        Reset(),
        Rewind(5.0),
    ]
    topic = configured("text", "prompt")["state_topic"]
    await until(
        lambda: looker.received(topic)[-1]["prompt"] == "a fox in the snow", "the state is on its topic"
    )
    assert looker.received(configured("sensor", "viewers")["availability_topic"])[-1]["status"] == "online"


async def test_home_assistant_finds_the_picture_of_main_and_loses_it_with_the_server(
    tmp_path: Path,
) -> None:
    """A session without viewers is steered: it plays for a moment, and its picture is retained."""
    need_mosquitto()
    with Mosquitto(tmp_path) as broker:
        options = MqttOptions(node="here", discovery="homeassistant")
        async with (
            onlooker(broker.url, hears="homeassistant/image/#") as looker,
            onlooker(broker.url, hears="psistream/v1/session/+/picture") as eye,
        ):
            async with live(config(mqtt=broker.url, mqtt_options=options)) as server:
                await until(lambda: bool(looker.messages), "the image entity is told")
                told = json.loads(bytes(looker.messages[-1].payload))
                assert told["content_type"] == "image/jpeg"
                await until(lambda: bool(eye.messages), "a first picture")
                count = len(eye.messages)
                await eye.command("prompt", "a blue dog", session="main.here")
                await until(lambda: len(eye.messages) > count, "a picture of what was asked for")
                message = eye.messages[-1]
                assert str(message.topic) == told["image_topic"]
                with Image.open(io.BytesIO(bytes(message.payload))) as image:
                    assert (image.format, image.width) == ("JPEG", 2 * server.services.gateway.ready.width)  # type: ignore[union-attr]
            await until(lambda: not eye.messages[-1].payload, "nothing stays retained")


async def test_without_the_option_nothing_is_discovered(tmp_path: Path) -> None:
    need_mosquitto()
    with Mosquitto(tmp_path) as broker:
        async with MqttBridge(FakeSteering(), broker.url, node="here") as bridge:
            assert await bridge.wait_connected(30)
            async with onlooker(broker.url) as looker:
                await looker.client.subscribe("homeassistant/#", qos=1)
                await until(lambda: looker.received("here/status"), "what is retained")
                assert not [m for m in looker.messages if str(m.topic).startswith("homeassistant")]
