"""Who may steer by MQTT: tokens in commands, the embedded broker's rules, and a broker's own accounts."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidInput
from server.config import MqttOptions
from server.control.mqtt.service import open_mqtt
from server.control.mqtt.topics import Topics
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.control.mosquitto import Mosquitto, need_mosquitto, need_mosquitto_pub
from tests.rigs.control.mqtt_clients import ANYWHERE, client, mosquitto, port_of
from tests.rigs.control.onlooker import onlooker
from tests.rigs.paths import ROOT
from tests.rigs.server.rights_rig import KEY
from tests.rigs.server.server_rig import Live, config, live
from tests.rigs.skips import need
from tests.rigs.waiting import until


async def opened(server: Live) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = await server.http.post("/v1/sessions", json={"prompt": "a dog"}, headers=headers)
    assert answer.status_code == 201, answer.text
    session: dict[str, Any] = answer.json()
    return session


@pytest.mark.parametrize("access", ["open", "token"])
async def test_a_token_in_a_command_is_checked(tmp_path: Path, access: Any) -> None:
    need_mosquitto()
    options = MqttOptions(node="here", access=access)
    with Mosquitto(tmp_path) as broker:
        settings = config(mqtt=broker.url, mqtt_options=options, api_key=KEY, client_sessions=0)
        async with live(settings) as server, onlooker(broker.url) as looker:
            assert server.services.mqtt is not None
            assert await server.services.mqtt.wait_connected(30)
            mine = await opened(server)
            link = await server.http.post(
                f"/v1/sessions/{mine['id']}/links",
                json={"role": "driver"},
                headers={"Authorization": f"Bearer {mine['token']}"},
            )
            good = (mine["token"], KEY, link.json()["token"])
            bad = ("nonsense", mine["view_token"], server.services.gateway.session("main").token)
            expected = {}
            for i, token in enumerate((*good, *bad, None)):
                body = {"id": f"c{i}", "client": "me", **({"token": token} if token else {})}
                await looker.command("pause", json.dumps(body), session=mine["id"])
                fine = token in good or (token is None and access == "open")
                code = "forbidden" if token == mine["view_token"] else "unauthorized"
                expected[f"c{i}"] = None if fine else code

            def answers() -> dict[str, Any]:
                found = looker.received(f"{mine['id']}/ack/me")
                return {m["id"]: m["code"] for m in found}

            await until(lambda: answers().keys() == expected.keys(), "an answer to each")
            assert answers() == expected
            topics = [str(m.topic) for m in looker.messages if b"nonsense" in bytes(m.payload)]
            assert topics == [f"psistream/v1/session/{mine['id']}/cmd/pause"], "no answer repeats a token"


async def test_with_tokens_the_embedded_broker_hides_other_clients_commands() -> None:
    need_mosquitto()
    topics = Topics()
    async with mosquitto() as public, mosquitto_private() as private:
        for broker, sees in ((public, True), (private, False)):
            port = port_of(broker.shown)
            async with client(port) as spy, client(port) as game:
                await spy.subscribe("#", qos=1)
                await game.publish(topics.command("main", "prompt"), "with a token", qos=1)
                await game.publish("answers/game", "hello", qos=1)
                heard = []
                async for message in spy.messages:
                    heard.append(str(message.topic))
                    if heard[-1] == "answers/game":
                        break
                assert (topics.command("main", "prompt") in heard) is sees


def mosquitto_private() -> Any:
    from server.control.mqtt.embedded.mosquitto import MosquittoBroker, find_mosquitto

    program = find_mosquitto()
    assert program is not None
    return MosquittoBroker(program, ANYWHERE, Topics())


async def test_the_server_receives_commands_on_the_private_broker() -> None:
    need_mosquitto()
    options = MqttOptions(node="here", access="token", listen=ANYWHERE)
    steering = FakeSteering()
    allowed: list[tuple[str, str]] = []
    async with open_mqtt(
        "embedded", steering, options, authorize=lambda session, token: allowed.append((session, token))
    ) as bridge:
        assert bridge is not None
        assert await bridge.wait_connected(30)
        async with onlooker(bridge.url) as looker:
            await looker.command("prompt", json.dumps({"text": "a fox", "token": "t", "client": "me"}))
            assert (await looker.answer("applied", "/ack/me"))["session"] == "main"
            await until(lambda: looker.received("here/status"), "its status")
            assert looker.received("here/status")[-1]["status"] == "online"
    assert allowed == [("main", "t")]


async def test_the_built_in_broker_cannot_keep_tokens_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.control.mqtt.service.find_mosquitto", lambda: None)
    with pytest.raises(InvalidInput, match="install mosquitto"):
        async with open_mqtt("embedded:0", FakeSteering(), MqttOptions(access="token")):
            pass


# ---- accounts of a broker of one's own: the example of docs/mqtt-rights.md ----

SCRIPT = re.search(r"```sh dynsec\n(.*?)```", (ROOT / "docs" / "mqtt-rights.md").read_text("utf-8"), re.S)


def need_dynsec() -> Path:
    found = sorted(Path("/usr/lib").rglob("mosquitto_dynamic_security.so"))
    need(bool(found) and shutil.which("mosquitto_ctrl") is not None, "mosquitto with dynamic security")
    return found[0]


def accounts(folder: Path) -> tuple[str, ...]:
    """Configuration lines for dynamic security, whose first account is the admin's."""
    plugin, state = need_dynsec(), folder / "dynamic-security.json"
    subprocess.run(["mosquitto_ctrl", "dynsec", "init", str(state), "admin", "adminpass"], check=True)
    return f"plugin {plugin}", f"plugin_opt_config_file {state}", "user root"


def run_script(port: int) -> None:
    assert SCRIPT is not None
    script = SCRIPT[1].replace("-h broker.example -p 1883", f"-h 127.0.0.1 -p {port}")
    subprocess.run(["bash", "-ec", script], check=True, timeout=60)


async def test_each_account_steers_its_own_session_only(tmp_path: Path) -> None:
    """The commands are those in docs/mqtt-rights.md, with mosquitto's dynamic security."""
    need_mosquitto()
    need_mosquitto_pub()
    rules = accounts(tmp_path)
    with Mosquitto(tmp_path, *rules, anonymous=False) as broker:
        await asyncio.to_thread(run_script, port_of(broker.url))
        url = broker.url.replace("//", "//psistream:server-password@")
        steering = FakeSteering("main", "alices", "bobs")
        options = MqttOptions(node="here")
        async with open_mqtt(url, steering, options) as bridge:
            assert bridge is not None
            assert await bridge.wait_connected(30), bridge.status
            login: dict[str, Any] = {"username": "alice", "password": "alice-password"}
            async with onlooker(broker.url, hears="psistream/v1/session/alices/ack/#", **login) as alice:
                await alice.command("prompt", "a fox", session="bobs")
                await alice.command("prompt", "a cat", session="alices")
                assert (await alice.answer("applied"))["session"] == "alices"
                assert [session for session, _ in steering.controls] == ["alices"]
            async with onlooker(broker.url, hears="#", **login) as alice:  # the broker refuses this
                await alice.client.subscribe("psistream/v1/session/bobs/#", qos=1)
                await alice.client.subscribe("psistream/v1/session/alices/state", qos=1)
                await until(lambda: bool(alice.messages), "her own state")
                await alice.command("prompt", "a dog", session="alices")
                await until(lambda: alice.received("/state")[-1]["prompt"] == "a dog", "she is obeyed")
                assert {str(m.topic) for m in alice.messages} == {"psistream/v1/session/alices/state"}
