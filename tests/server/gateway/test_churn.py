"""Clients that join, watch and vanish without leaving: nothing of them stays behind."""

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
from server.worker.messages.commands import CloseSession, Command
from tests.rigs.server.server_rig import (
    SDP,
    FakeWorker,
    Live,
    Watcher,
    config,
    live,
    until,
    watcher,
)
from tests.rigs.server.settings import change

pytestmark = pytest.mark.usefixtures("impatient")

MANY = ((1000.0, 1000),) * 4  # rate and burst per token, session and address, and in total
LONG_S = 600.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that checks often, and lets many clients join at once."""
    for name, value in (
        ("gateway.upkeep.EVERY_S", 0.02),
        ("webrtc.viewers.CHECK_S", 0.05),
        ("http.services.OPENINGS", MANY),
        ("http.services.JOININGS", MANY),
    ):
        monkeypatch.setattr(f"server.{name}", value)


class Held(NamedTuple):
    """The resources that this process holds."""

    tasks: int
    files: int
    threads: int


def held() -> Held:
    gc.collect()
    return Held(len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), threading.active_count())


async def all_helpers() -> None:
    """Let the event loop's thread pool grow to its limit now, so that growth does not look like a leak
    later."""
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.02) for _ in range(64)))


def at_most(now: Held, before: Held) -> bool:
    return all(a <= b for a, b in zip(now, before, strict=True))


async def opened(server: Live) -> tuple[str, dict[str, str]]:
    """Open a private session. Returns its id and the headers for requests about it."""
    answer = await server.http.post("/v1/sessions", json={"prompt": "a blue dog"})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], {"Authorization": f"Bearer {answer.json()['token']}"}


async def never_connects(server: Live, sdp: str) -> None:
    session, token = await opened(server)
    await server.http.post(f"/v1/sessions/{session}/whep", content=sdp, headers=SDP | token)


def cut_off(viewer: Watcher) -> None:
    """Stop sending without leaving, as if the viewer's machine had lost power."""
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
    async with live(config(session_idle_s=LONG_S, viewer_timeout_s=LONG_S)) as server:
        await all_helpers()
        before, settings = held(), server.services.gateway.config
        for _ in range(2):
            change(settings, session_idle_s=LONG_S, viewer_timeout_s=LONG_S)
            session, token = await opened(server)
            async with watcher() as viewer:
                sdp = await viewer.offer()
                url = f"/v1/sessions/{session}/whep"
                await viewer.accept(await server.http.post(url, content=sdp, headers=SDP | token))
                await viewer.frame()
                cut_off(viewer)
                change(settings, session_idle_s=0.1, viewer_timeout_s=0.1)
                await gone(server)
        await until(lambda: at_most(held(), before), f"return to {before}")


async def test_a_request_that_is_broken_off_leaves_no_session() -> None:
    """Nobody receives the response with the token."""
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
