"""WHEP resources and their viewers: addresses, limits and end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.config import IceServer
from server.webrtc.adapter.addresses import ice_connection
from server.webrtc.adapter.restart import Credentials, IceRestart
from server.webrtc.signalling.offer import read_candidates
from tests.rigs.server.server_rig import SDP, config, live, until, watcher, watching
from tests.rigs.server.settings import change
from tests.server.http.routes.whep import post

WHEP = "/v1/sessions/main/whep"

FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
ANY = {"If-Match": "*"}
PWD = "aPasswordOf22Characters+"


async def test_a_fragment_that_is_something_else_is_refused() -> None:
    async with live() as server, watching(server) as viewer:
        assert (await server.http.patch(viewer.location, content="x", headers=SDP)).status_code == 415
        large = await server.http.patch(viewer.location, content="x" * 20_000, headers=FRAGMENT)
        assert large.status_code == 413
        same = next(line for line in viewer.pc.localDescription.sdp.split("\r\n") if "ice-ufrag" in line)
        again = await server.http.patch(viewer.location, content=same, headers=FRAGMENT)
        assert again.status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        "a=ice-ufrag:other\r\n",
        "a=ice-ufrag:other\r\na=ice-pwd:short\r\n",
        "a=ice-ufrag:o\r\na=ice-pwd:" + PWD,
    ],
)
async def test_a_restart_without_valid_credentials_is_refused_and_the_video_continues(body: str) -> None:
    async with live() as server, watching(server) as viewer:
        answer = await server.http.patch(viewer.location, content=body, headers=FRAGMENT | ANY)
        assert (answer.status_code, answer.json()["field"]) == (400, "body")
        await viewer.frame()


async def test_an_ice_restart_moves_the_connection_and_video_and_channel_continue() -> None:
    async with live() as server, watching(server) as viewer:
        await viewer.frame()
        transceiver = viewer.pc.getTransceivers()[0]
        connection: Any = ice_connection(transceiver)
        before = connection._nominated[1]
        body = f"a=ice-ufrag:fresh\r\na=ice-pwd:{PWD}\r\na=mid:0\r\n"
        answer = await server.http.patch(viewer.location, content=body, headers=FRAGMENT | ANY)
        assert (answer.status_code, answer.headers["content-type"]) == (200, FRAGMENT["Content-Type"])
        assert answer.headers["etag"] != viewer.etag
        assert "a=end-of-candidates" in answer.text
        said = dict(line[2:].split(":", 1) for line in answer.text.split("\r\n") if ":" in line)
        # aiortc can't restart ICE, so its agent gets the new session by hand; it controls and nominates
        restart = IceRestart(transceiver)
        restart.begin(Credentials(said["ice-ufrag"], said["ice-pwd"]))
        connection._local_username, connection._local_password = "fresh", PWD
        connection._nominating.clear()
        lines = tuple(answer.text.split("\r\n"))
        await restart.add(read_candidates(lines))
        await until(lambda: connection._nominated[1] is not before, "the new pair")
        for _ in range(5):
            await viewer.frame()
        viewer.send({"type": "ping", "id": "after"})
        await until(lambda: bool(viewer.heard("pong", id="after")), "a pong")
        old = await server.http.patch(
            viewer.location, content="", headers=FRAGMENT | {"If-Match": viewer.etag}
        )
        assert (old.status_code, old.json()["code"]) == (412, "wrong_version")


async def test_a_restart_whose_answer_was_lost_is_answered_again() -> None:
    async with live() as server, watching(server) as viewer:
        body = f"a=ice-ufrag:fresh\r\na=ice-pwd:{PWD}\r\n"
        first, second = [
            await server.http.patch(viewer.location, content=body, headers=FRAGMENT | ANY) for _ in range(2)
        ]
        assert (first.status_code, second.status_code) == (200, 200)
        assert (first.text, first.headers["etag"]) == (second.text, second.headers["etag"])


async def test_leaving_twice_is_no_error() -> None:
    """whip-whep's client closes its connection first and sends DELETE afterwards."""
    async with live() as server, watching(server) as viewer:
        assert (await server.http.delete(viewer.location)).status_code == 200
        assert len(server.services.viewers) == 0
        assert (await server.http.delete(viewer.location)).status_code == 200
        assert (await server.http.patch(viewer.location, content="", headers=FRAGMENT)).status_code == 404
        assert (await server.http.delete(WHEP + "/somebody")).status_code == 404


async def test_a_viewers_address_is_of_its_session_only() -> None:
    async with live() as server, watching(server) as viewer:
        other = viewer.location.replace("/main/", "/other/")
        assert (await server.http.delete(other)).status_code == 404


async def test_get_head_and_options_answer_as_the_draft_says() -> None:
    async with live() as server, watching(server) as viewer:
        got, head = await server.http.get(WHEP), await server.http.head(WHEP)
        assert (got.status_code, got.headers["accept-post"]) == (204, "application/sdp")
        assert (head.status_code, head.headers["accept-post"]) == (200, "application/sdp")
        assert head.headers["content-type"] == "application/sdp"
        assert (await server.http.head(viewer.location)).status_code == 204
        options = await server.http.options(WHEP)
        assert (options.status_code, options.headers["accept-post"]) == (200, "application/sdp")
        assert (await server.http.get(viewer.location)).status_code == 204
        patches = (await server.http.options(viewer.location)).headers["accept-patch"]
        assert patches == FRAGMENT["Content-Type"]


async def test_ice_servers_are_sent_as_links() -> None:
    # nothing listens there: the query fails at once
    turn = IceServer("turn:127.0.0.1:9?transport=tcp", "user", "pass")
    async with live(config(ice_servers=(turn,))) as server, watcher() as viewer:
        answer = await post(server, await viewer.offer())
        assert answer.headers["link"] == (
            '<turn:127.0.0.1:9?transport=tcp>; rel="ice-server"; username="user"; credential="pass"; '
            'credential-type="password"'
        )


async def test_the_places_of_viewers_are_limited() -> None:
    async with live(config(max_viewers=1)) as server, watching(server) as first, watcher() as second:
        answer = await post(server, await second.offer())
        assert (answer.status_code, answer.json()["code"]) == (503, "full")
        assert int(answer.headers["retry-after"]) > 0
        await server.http.delete(first.location)
        assert (await post(server, second.pc.localDescription.sdp)).status_code == 201


async def test_a_flood_of_offers_is_slowed_down() -> None:
    async with live() as server:
        answers = [await post(server, "garbage") for _ in range(300)]
        assert {a.status_code for a in answers[:24]} == {400}
        late = next(a for a in answers if a.status_code == 429)
        assert int(late.headers["retry-after"]) >= 1


async def test_watching_a_private_session_needs_a_token() -> None:
    async with live() as server, watcher() as viewer:
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).json()
        offer, url = await viewer.offer(), mine["whep"]
        assert (await server.http.post(url, content=offer, headers=SDP)).status_code == 401
        watch = SDP | {"Authorization": f"Bearer {mine['view_token']}"}
        await viewer.accept(await server.http.post(url, content=offer, headers=watch))
        await viewer.frame()


async def test_a_viewer_that_closes_is_detected_at_once() -> None:
    async with live() as server:
        async with watching(server) as viewer:
            await viewer.frame()
        await until(lambda: len(server.services.viewers) == 0, "departure")
        await until(lambda: server.services.gateway.info("main").viewers == 0, "empty hall")


async def test_a_viewer_that_falls_silent_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pulled cable: the viewer does not leave. aiortc itself needs half a minute to notice."""
    monkeypatch.setattr("server.webrtc.viewers.CHECK_S", 0.05)
    async with live() as server, watching(server) as viewer:
        await viewer.frame()
        change(server.services.config, viewer_timeout_s=1.0)
        for protocol in viewer.pc.getTransceivers()[0].receiver.transport.transport._connection._protocols:
            monkeypatch.setattr(protocol.transport, "sendto", lambda *args: None)
        await until(lambda: len(server.services.viewers) == 0, "end of a silent viewer")


async def test_one_that_never_connects_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.webrtc.viewers.CHECK_S", 0.05)
    monkeypatch.setattr("server.webrtc.viewers.CONNECT_TIMEOUT_S", 0.2)
    async with live() as server, watcher() as viewer:
        assert (await post(server, await viewer.offer())).status_code == 201
        await until(lambda: len(server.services.viewers) == 0, "end of a viewer that never came")


async def test_many_that_come_and_go_leave_nothing_behind() -> None:
    async with live() as server:
        before = len(asyncio.all_tasks())
        for _ in range(3):
            async with watching(server) as viewer:
                await viewer.frame()
        await until(lambda: len(server.services.viewers) == 0, "departure")
        await until(lambda: len(asyncio.all_tasks()) <= before, "end of their tasks")
