"""Clients that come, watch and vanish without a word: nothing of them stays behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from typing import NamedTuple

import httpx
import pytest

from engine.types import OpenSession
from server.webrtc.adapter.addresses import ice_connection
from server.worker.messages import CloseSession, Command
from tests.rigs.server.server_rig import SDP, FakeWorker, Live, Watcher, config, live, until, watcher

pytestmark = pytest.mark.usefixtures("impatient")

MANY = ((1000.0, 1000),) * 4  # per second and at once: of a token, a session, an address, and in all


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that notices within moments, and lets many come at once."""
    for name, value in (
        ("gateway.upkeep.EVERY_S", 0.02),
        ("webrtc.viewers.CHECK_S", 0.05),
        ("http.services.OPENINGS", MANY),
        ("http.services.JOININGS", MANY),
    ):
        monkeypatch.setattr(f"server.{name}", value)


class Held(NamedTuple):
    """What this process holds."""

    tasks: int
    files: int
    threads: int


def held() -> Held:
    gc.collect()
    return Held(len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), threading.active_count())


async def all_helpers() -> None:
    """The loop's pool of threads grows by need up to its bound; let it, so that it is no leak afterwards."""
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.02) for _ in range(64)))


def at_most(now: Held, before: Held) -> bool:
    return all(a <= b for a, b in zip(now, before, strict=True))


async def opened(server: Live) -> tuple[str, dict[str, str]]:
    """A session of one's own: its id and what to send with each request."""
    answer = await server.http.post("/v1/sessions", json={"prompt": "a blue dog"})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], {"Authorization": f"Bearer {answer.json()['token']}"}


async def never_connects(server: Live, sdp: str) -> None:
    session, token = await opened(server)
    await server.http.post(f"/v1/sessions/{session}/whep", content=sdp, headers=SDP | token)


def cut_off(viewer: Watcher) -> None:
    """As if its machine lost power: nothing more is sent, not even a goodbye."""
    connection = ice_connection(viewer.pc.getTransceivers()[0])
    for protocol in connection._protocols:
        protocol.transport.abort()


def told(worker: FakeWorker, kind: type[Command]) -> list[Command]:
    return [command for command in worker.commands if isinstance(command, kind)]


async def gone(server: Live) -> None:
    gate = server.services.gateway
    await until(lambda: gate.session_ids() == ["main"] and not server.services.viewers, "end of it all")


async def test_twenty_clients_that_vanish_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.webrtc.viewers.CONNECT_TIMEOUT_S", 0.3)
    async with live(config(session_idle_s=0.2)) as server, watcher() as someone:
        sdp = await someone.offer()
        await all_helpers()
        for _ in range(3):
            await asyncio.gather(*(never_connects(server, sdp) for _ in range(2)))
            await gone(server)
        before, listeners = held(), server.services.gateway.sessions.listeners
        for _ in range(10):
            await asyncio.gather(*(never_connects(server, sdp) for _ in range(2)))
            await gone(server)
        await until(lambda: at_most(held(), before), f"return to {before}")
        assert server.services.gateway.sessions.listeners == listeners
        assert (await server.http.get("/readyz")).status_code == 200


async def test_a_viewer_that_loses_power_in_mid_segment_frees_its_place_and_its_session() -> None:
    async with live(config(session_idle_s=1.0, viewer_timeout_s=1.0)) as server:
        await all_helpers()
        before = held()
        for _ in range(2):
            session, token = await opened(server)
            async with watcher() as viewer:
                sdp = await viewer.offer()
                url = f"/v1/sessions/{session}/whep"
                await viewer.accept(await server.http.post(url, content=sdp, headers=SDP | token))
                await viewer.frame()
                cut_off(viewer)
                await gone(server)
        await until(lambda: at_most(held(), before), f"return to {before}")


async def test_a_request_that_is_broken_off_leaves_no_session() -> None:
    """The answer with the token reaches nobody."""
    workers: list[FakeWorker] = []
    async with live(make_worker=lambda on_event: FakeWorker(on_event, workers)) as server:
        workers[0].mute = True
        asked = asyncio.ensure_future(server.http.post("/v1/sessions", json={"prompt": "a dog"}))
        await until(lambda: len(told(workers[0], OpenSession)) == 2, "question")
        asked.cancel()
        with pytest.raises((asyncio.CancelledError, httpx.HTTPError)):
            await asked
        assert server.services.gateway.session_ids() == ["main"]
        assert len(told(workers[0], CloseSession)) == 1
