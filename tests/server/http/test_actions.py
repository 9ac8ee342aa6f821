"""Actions come from the model: a model with other actions is steerable on every channel, and unknown actions
are rejected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from clients.play.keys import actions_of_keys
from engine.types import Action, Control, SessionInfo
from server.config import WorkerConfig
from server.control.datachannel import DataChannelControl
from server.control.mqtt.message import read_command
from server.control.mqtt.topics import Topics
from tests.rigs.server.server_rig import config, live, until
from tests.server.control.test_datachannel import FakeChannel

ACTIONS = ["rest", "swim", "dive"]


async def test_a_model_with_other_actions_is_steered_by_every_channel(tmp_path: Path) -> None:
    (tmp_path / "fake.json").write_text(json.dumps({"actions": ACTIONS}))
    settings = config()
    worker = replace(settings.worker, model=str(tmp_path))
    assert isinstance(worker, WorkerConfig)
    async with live(replace(settings, worker=worker)) as server:
        gateway = server.services.gateway
        heard: list[Any] = []
        gateway.listen(heard.append)
        channel = FakeChannel()
        DataChannelControl(channel, gateway, "main", may_steer=True)
        assert channel.take()[0]["actions"] == ACTIONS  # sent before any request

        def held() -> list[str | None]:
            return [event.action for event in heard if isinstance(event, SessionInfo)]

        assert (await server.control({"type": "action", "action": "swim"})).status_code == 202
        await until(lambda: "swim" in held(), "HTTP's action")
        channel.say({"type": "action", "action": "dive"})
        await until(lambda: "dive" in held(), "the data channel's action")
        changed = await server.http.patch("/v1/sessions/main", json={"action": "rest"})
        assert changed.status_code == 202
        assert changed.json()["model"]["actions"] == changed.json()["actions"] == ACTIONS
        await until(lambda: "rest" in held(), "PATCH's action")

        by_mqtt = read_command(Topics(), "main", "action", b"swim").control
        assert by_mqtt is not None
        assert gateway.submit("main", by_mqtt).status == "received"
        await until(lambda: held()[-1] == "swim", "MQTT's action")

        told = "action must be one of rest, swim, dive or null"
        refused = await server.control({"type": "action", "action": "left"})
        assert (refused.status_code, refused.json()["field"]) == (400, "action")
        assert refused.json()["message"] == told
        both = await server.http.patch("/v1/sessions/main", json={"prompt": "a blue sea", "action": "left"})
        assert (both.status_code, both.json()["message"]) == (400, told)
        channel.take()
        channel.say({"id": "a", "type": "action", "action": "left"})
        assert [(m["status"], m["field"], m["message"]) for m in channel.take() if m.get("id") == "a"] == [
            ("rejected", "action", told)
        ]
        assert gateway.submit("main", Control("free", Action(None))).status == "received"
        await until(lambda: held()[-1] is None, "release")
        assert "a blue sea" not in [e.prompt for e in heard if isinstance(e, SessionInfo)]


def test_the_terminal_has_a_key_for_every_action() -> None:
    assert actions_of_keys(["idle", "left", "right", "jump"]) == actions_of_keys(None)
    assert actions_of_keys(ACTIONS) == {"left": "rest", "right": "swim", "up": "dive"}
    keys = actions_of_keys(["left", *"abcdef"])
    assert keys["left"] == "left"
    assert set(keys.values()) == {"left", *"abcdef"}
