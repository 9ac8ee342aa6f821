"""A server is killed and restored from an earlier moment: each client sends again what is lost, once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server.subject import Subject
from clients.steer import SteeredSession, connect
from clients.steer.mqtt import Broker, MqttTransport
from clients.whep import WhepViewer
from server.control.mqtt.embedded.builtin import EmbeddedBroker
from tests.rigs.server.fake_device import FAKE_OPTIONS
from tests.rigs.storage.restorable import Restorable
from tests.rigs.waiting import LONG_S, until


def steered(server: Subject, broker: str) -> dict[str, SteeredSession]:
    """A client of each kind, for one session. The broker lives on when the server is killed."""
    topic = "psistream/v1/session/main"
    return {
        "http": connect(server.target.base, by="http"),
        "datachannel": connect(server.target.base, by="datachannel"),
        "mqtt": SteeredSession(MqttTransport(Broker.parse(broker), topic=topic)),
    }


@pytest.mark.slow
async def test_clients_send_again_what_a_restored_server_has_lost(tmp_path: Path) -> None:
    async with EmbeddedBroker(0) as broker, AsyncExitStack() as clients:
        place = Restorable(tmp_path, *FAKE_OPTIONS, "--node", "here", "--mqtt", broker.url)
        with place.running() as server:
            viewer = await clients.enter_async_context(WhepViewer(server.target))  # keeps the session awake
            heard: list[dict[str, Any]] = []
            viewer.on_message = heard.append
            await viewer.ready(LONG_S)
            ways = steered(server, broker.url)
            for session in ways.values():
                await clients.enter_async_context(session)
            kept = {name: session.prompt(f"a dog by {name}") for name, session in ways.items()}
            for sent in kept.values():
                await sent.applied()
            await until(lambda: place.contains(*(sent.id for sent in kept.values())), "a save", LONG_S)
            place.remember()
            lost = {name: session.prompt(f"a red cat by {name}") for name, session in ways.items()}
            for sent in lost.values():
                await sent.applied()
            walk, stop = ways["mqtt"].action("left"), ways["mqtt"].action(None)
            frames = [(await sent.applied()).frame or 0 for sent in (*lost.values(), walk, stop)]
        place.go_back()
        with place.running() as server:
            first, after = 0, 0

            def news() -> bool:
                nonlocal first, after
                told = [m["lost_frames"] for m in heard if m.get("type") == "session" and m["lost_frames"]]
                first, after = told[-1] if told else (0, 0)
                return bool(told)

            await until(news, "word of the loss", LONG_S)
            assert all(first <= frame < after for frame in frames)
            for sent in (*lost.values(), stop):
                await until(lambda s=sent: s.settled and s.frame >= after, "its effect", LONG_S)  # type: ignore[misc]
            done = await asyncio.to_thread(place.log, server)
            assert sorted(done) == sorted(sent.id for sent in (*lost.values(), stop)), "each once"
            assert all((sent.frame or after) < after for sent in kept.values())
            await until(lambda: all("cat" in session.state.prompt for session in ways.values()), "its state")
            await asyncio.gather(*(session.pause().applied() for session in ways.values()))
