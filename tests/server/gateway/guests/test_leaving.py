"""A gateway that is about to stop: its viewers join another one while they still see its video."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.server.reader import Reader
from clients.signalling import post_offer
from clients.target import Target
from server.serve import _send_on
from server.webrtc import viewers
from tests.rigs.server.cluster_rig import OWNER, opened, two
from tests.rigs.server.server_rig import SDP, live, until, watcher, watching
from tests.rigs.waiting import LONG_S


async def test_viewers_join_another_gateway_while_they_still_see_the_video(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewers, "SEND_ON_S", float("inf"))
    async with two() as (g1, _):
        session, own = await opened(g1)
        token = own["Authorization"].partition(" ")[2]
        async with watching(g1, session, token=token) as before, watcher() as after:
            await before.frame()
            await until(lambda: before.heard("session"), "hello")
            leaving = asyncio.create_task(_send_on(g1.services))
            await until(lambda: before.heard("closed", code="moved"), "word of it")
            # whoever comes to this gateway, as through a load balancer, is led to the other one
            answer = await g1.http.post(
                f"/v1/sessions/{session}/whep", content=await after.offer(), headers=SDP | own
            )
            await after.accept(answer)
            assert f"/v1/sessions/{session}/whep/g2-" in after.location
            await after.frame()
            for _ in range(20):
                await before.frame()
            before.send({"id": "t1", "type": "pause"})
            await until(lambda: before.heard("receipt", id="t1", status="applied"), "receipt")
            assert (await g1.http.get(f"/v1/sessions/{session}", headers=own)).status_code == 200
            assert not leaving.done()
            assert (await g1.http.delete(before.location)).status_code == 200
            await asyncio.wait_for(leaving, LONG_S)


async def test_our_viewer_shows_one_video_until_it_has_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "SEND_ON_S", float("inf"))
    async with two() as (g1, g2):
        session, own = await opened(g1)
        target = Target(f"{g1.url}/", session, own["Authorization"].partition(" ")[2])
        async with Reader(target) as reader:
            await reader.ready(LONG_S)
            frames = reader.seen.frames

            async def late(*args: Any) -> tuple[str, str | None]:
                seen = len(frames)
                await until(lambda: len(frames) > seen + 10, "frames of the first connection")
                return await post_offer(*args)

            monkeypatch.setattr("clients.whep.post_offer", late)
            await asyncio.wait_for(_send_on(g1.services), LONG_S)
            assert (len(g1.services.viewers), len(g2.services.viewers)) == (0, 1)
            seen = len(frames)
            await until(lambda: len(frames) > seen + 10, "frames of the second connection")
            assert not reader.ended.is_set()


async def test_a_gateway_that_is_alone_stops_at_once() -> None:
    async with live() as server, watching(server) as viewer:
        await viewer.frame()
        await until(lambda: viewer.heard("session"), "hello")
        await _send_on(server.services)
        assert not server.services.gateway.leaving
        assert not viewer.heard("closed")


async def test_viewers_that_do_not_leave_are_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers, "SEND_ON_S", 0.1)
    async with two() as (g1, _), watching(g1, token=OWNER["Authorization"].partition(" ")[2]) as viewer:
        await viewer.frame()
        await until(lambda: viewer.heard("session"), "hello")
        await asyncio.wait_for(_send_on(g1.services), LONG_S)
        await until(lambda: viewer.heard("closed", code="moved"), "word of it")
