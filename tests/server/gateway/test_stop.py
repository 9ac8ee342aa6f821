"""A server that stops tells clients on every channel before it closes the channels."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import aiomqtt
import pytest

from tests.rigs.control.mosquitto import Mosquitto, need_mosquitto
from tests.rigs.control.onlooker import onlooker
from tests.rigs.server.server_rig import SDP, config, live, until, watcher
from tests.rigs.waiting import LONG_S

GOODBYE = {"type": "closed", "session": "main", "code": "closed", "message": "the server is stopping"}


async def test_viewers_hear_that_the_server_is_stopping() -> None:
    async with watcher() as viewer:
        sdp = await viewer.offer()
        async with live() as server:
            await viewer.accept(await server.http.post("/v1/sessions/main/whep", content=sdp, headers=SDP))
            await until(lambda: viewer.messages, "word on the data channel")
        await until(lambda: viewer.heard("closed"), "farewell")
        assert viewer.heard("closed") == [GOODBYE]


async def test_mqtt_publishes_that_sessions_end_and_clears_them(tmp_path: Path) -> None:
    need_mosquitto()
    with Mosquitto(tmp_path) as broker:
        async with onlooker(broker.url) as looker:
            async with live(config(mqtt=broker.url)) as server:
                mine = (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).json()["id"]
                await until(lambda: looker.received(f"{mine}/state"), "a state")
                await until(lambda: looker.received("main/state"), "a state of the shared session")
            await until(lambda: looker.received("/status")[-1]["status"] == "offline", "offline")
            for name in ("main", mine):
                told = [m for m in looker.received(f"{name}/event") if m["type"] == "closed"]
                assert told == [{**GOODBYE, "session": name}]
                await until(lambda name=name: looker.received(f"{name}/state")[-1] == {}, name)  # type: ignore[misc]


async def all_of_a_stop(heard: list[aiomqtt.Message]) -> None:
    """Listen until the embedded broker closes the connection."""
    async with AsyncExitStack() as stack:
        async with live(config(mqtt="embedded:0")) as server:
            assert server.services.mqtt is not None
            looker = await stack.enter_async_context(onlooker(server.services.mqtt.url))
            looker.messages = heard
            await until(lambda: looker.received("main/state"), "a state")
        await asyncio.sleep(LONG_S)


async def test_the_embedded_broker_delivers_it_before_it_ends() -> None:
    heard: list[aiomqtt.Message] = []
    with pytest.raises(ExceptionGroup):  # the broker ends with the server
        await all_of_a_stop(heard)
    said = {str(m.topic): json.loads(bytes(m.payload) or b"{}") for m in heard}
    assert said["psistream/v1/session/main/event"] == GOODBYE
    assert said["psistream/v1/session/main/state"] == {}
