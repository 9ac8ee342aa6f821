"""WHEP conformance: what players that exist send, and what the draft asks of a server."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from server.config import IceServer
from server.webrtc.offer import MAX_SDP_BYTES
from tests.rigs.server_rig import SDP, Live, config, live, until, watcher, watching

WHEP = "/v1/sessions/main/whep"
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
CANDIDATE = "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n"


async def post(server: Live, sdp: str | bytes, query: str = "", **headers: str) -> httpx.Response:
    return await server.http.post(WHEP + query, content=sdp, headers=SDP | headers)


async def test_an_offer_is_answered_with_all_that_a_player_needs() -> None:
    async with live() as server, watcher() as viewer:
        answer = await post(server, await viewer.offer())
        assert (answer.status_code, answer.headers["content-type"]) == (201, "application/sdp")
        assert answer.headers["location"].startswith(WHEP + "/")
        assert answer.headers["accept-patch"] == FRAGMENT["Content-Type"]
        video, data = answer.text.split("m=")[1:]
        assert "a=sendonly" in video
        assert "a=candidate" in video
        assert "a=msid:" in video
        assert "webrtc-datachannel" in data
        assert "a=group:BUNDLE 0 1" in answer.text
        assert len(server.services.viewers) == 1


@pytest.mark.parametrize(
    ("codecs", "query", "chosen"),
    [
        (("vp8", "h264"), "", "vp8"),
        (("h264", "vp8"), "", "h264"),
        (("h264",), "", "h264"),
        (("vp8",), "", "vp8"),
        (("vp8", "h264"), "?codec=h264", "h264"),
    ],
)
async def test_the_codec_is_vp8_unless_the_offer_or_the_url_wants_another(
    codecs: tuple[str, ...], query: str, chosen: str
) -> None:
    async with live() as server, watching(server, codecs=codecs, query=query) as viewer:
        assert viewer.codec == chosen
        assert (await viewer.frame()).width == 320


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [("?codec=av1", 400, "invalid"), ("?codec=h264", 406, "not_acceptable")],
)
async def test_a_codec_that_cannot_be_had_is_told(query: str, status: int, code: str) -> None:
    async with live() as server, watcher(codecs=("vp8",)) as viewer:
        answer = await post(server, await viewer.offer(), query)
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (status, code, "codec")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid"),
        (b"garbage", 400, "invalid"),
        (b"v=0\r\n", 400, "invalid"),
        (b"v=0\r\nm=video 9 X 96\r\n", 400, "invalid"),
        (b"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n", 400, "invalid"),
        (b"\xff\xfe\x00", 400, "invalid"),
        (b"v=0\r\n" * MAX_SDP_BYTES, 413, "too_large"),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_a_garbage_offer_is_refused_in_plain_words_and_costs_nobody_anything(
    body: bytes, status: int, code: str
) -> None:
    async with live() as server, watching(server) as viewer:
        answer = await post(server, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["field"] in ("sdp", "body")
        assert len(server.services.viewers) == 1
        await viewer.frame()


async def test_an_offer_without_our_codecs_is_not_acceptable() -> None:
    async with live() as server, watcher(codecs=("vp8",)) as viewer:
        answer = await post(server, (await viewer.offer()).replace("VP8/", "AV1/"))
        assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


async def test_only_sdp_is_taken() -> None:
    async with live() as server:
        answer = await server.http.post(WHEP, json={"sdp": "v=0"})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_type")


async def test_an_unknown_session_is_told() -> None:
    async with live() as server, watcher() as viewer:
        answer = await server.http.post("/v1/sessions/nobody/whep", content=await viewer.offer(), headers=SDP)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_session")
        assert (await server.http.get("/v1/sessions/nobody/whep")).status_code == 404


async def test_offers_with_audio_first_as_players_send_them_are_answered() -> None:
    """whip-whep's client offers audio and video. Audio is answered as inactive."""
    async with live() as server, watcher(channel=False) as viewer:
        viewer.pc.addTransceiver("audio", direction="recvonly")
        await viewer.accept(await post(server, await viewer.offer()))
        await viewer.frame()
        assert viewer.pc.getTransceivers()[1].currentDirection == "inactive"


async def test_a_player_that_offers_to_send_as_well_only_gets() -> None:
    async with live() as server, watcher() as viewer:
        viewer.pc.getTransceivers()[0].direction = "sendrecv"
        answer = await post(server, await viewer.offer())
        assert "a=sendonly" in answer.text
        assert "a=sendrecv" not in answer.text


# ---- the session of a viewer ----


async def test_trickled_candidates_are_taken_with_and_without_if_match() -> None:
    async with live() as server, watching(server) as viewer:
        for headers in ({}, {"If-Match": "*"}, {"If-Match": viewer.etag}):
            for body in (
                CANDIDATE,
                "a=mid:0\r\n" + CANDIDATE + "a=end-of-candidates\r\n",
                "",
                CANDIDATE.replace("127.0.0.1", "3a0c7f1e-1d7b-4c6e-9c39-6a3d3f8f3a11.local"),
            ):
                answer = await server.http.patch(viewer.location, content=body, headers=FRAGMENT | headers)
                assert answer.status_code == 204


@pytest.mark.parametrize("body", ["nonsense", "a=candidate:x", "=", "a", b"\xff"])
async def test_a_fragment_that_is_none_is_refused_and_the_video_goes_on(body: str | bytes) -> None:
    async with live() as server, watching(server) as viewer:
        answer = await server.http.patch(viewer.location, content=body, headers=FRAGMENT)
        assert (answer.status_code, answer.json()["field"]) == (400, "body")
        await viewer.frame()


async def test_a_fragment_for_another_ice_session_is_refused() -> None:
    async with live() as server, watching(server) as viewer:
        headers = FRAGMENT | {"If-Match": '"another"'}
        answer = await server.http.patch(viewer.location, content=CANDIDATE, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (412, "wrong_version")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "", "POST"), ("DELETE", "", "POST"), ("PATCH", "/", "POST"), ("POST", "/x", "PATCH")],
)
async def test_a_method_that_is_not_for_this_address_is_told_which_ones_are(
    method: str, path: str, allowed: str
) -> None:
    async with live() as server:
        answer = await server.http.request(method, WHEP + path)
        assert answer.status_code == 405
        assert allowed in answer.headers["allow"]
        assert method not in answer.headers["allow"].split(", ")


async def test_a_slash_at_the_end_makes_no_difference() -> None:
    async with live() as server, watcher() as viewer:
        answer = await server.http.post(WHEP + "/", content=await viewer.offer(), headers=SDP)
        await viewer.accept(answer)
        await viewer.frame()
        assert (await server.http.get(WHEP + "/")).status_code == 204
        assert (await server.http.options(WHEP + "/")).headers["accept-post"] == "application/sdp"


async def test_who_may_watch_learns_the_ice_servers_before_the_offer() -> None:
    turn = IceServer("turn:127.0.0.1:9?transport=tcp", "user", "pass")
    async with live(config(ice_servers=(turn,))) as server:
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).json()
        known = {"Authorization": f"Bearer {mine['view_token']}"}
        assert 'credential="pass"' in (await server.http.options(mine["whep"], headers=known)).headers["link"]
        assert "link" not in (await server.http.options(mine["whep"])).headers


async def test_an_offer_with_unbundled_audio_as_gstreamer_sends_it_plays() -> None:
    async with live() as server, watcher(channel=False) as viewer:
        viewer.pc.addTransceiver("audio", direction="recvonly")
        offer = (await viewer.offer()).replace("a=group:BUNDLE 0 1\r\n", "")
        answer = await post(server, offer)
        assert answer.status_code == 201
        assert "m=audio 0 " in answer.text
        assert "a=group:BUNDLE" not in answer.text


async def test_trickle_that_restarts_or_is_something_else_is_refused() -> None:
    async with live() as server, watching(server) as viewer:
        restart = "a=ice-ufrag:other\r\na=ice-pwd:other-password-of-22-chars\r\n"
        answer = await server.http.patch(viewer.location, content=restart, headers=FRAGMENT)
        assert (answer.status_code, answer.json()["code"]) == (422, "no_ice_restart")
        assert (await server.http.patch(viewer.location, content="x", headers=SDP)).status_code == 415
        large = await server.http.patch(viewer.location, content="x" * 20_000, headers=FRAGMENT)
        assert large.status_code == 413
        same = next(line for line in viewer.pc.localDescription.sdp.split("\r\n") if "ice-ufrag" in line)
        again = await server.http.patch(viewer.location, content=same, headers=FRAGMENT)
        assert again.status_code == 204


async def test_leaving_twice_is_no_error() -> None:
    """whip-whep's client closes its connection first and then says DELETE."""
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
        assert (await server.http.get(WHEP)).status_code == 204
        head = await server.http.head(WHEP)
        assert (head.status_code, head.headers["content-type"]) == (200, "application/sdp")
        options = await server.http.options(WHEP)
        assert (options.status_code, options.headers["accept-post"]) == (200, "application/sdp")
        assert (await server.http.get(viewer.location)).status_code == 204
        patches = (await server.http.options(viewer.location)).headers["accept-patch"]
        assert patches == FRAGMENT["Content-Type"]


async def test_ice_servers_are_told_as_links() -> None:
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


async def test_a_token_is_needed_to_watch_a_session_of_ones_own() -> None:
    async with live() as server, watcher() as viewer:
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).json()
        offer, url = await viewer.offer(), mine["whep"]
        assert (await server.http.post(url, content=offer, headers=SDP)).status_code == 401
        watch = SDP | {"Authorization": f"Bearer {mine['view_token']}"}
        await viewer.accept(await server.http.post(url, content=offer, headers=watch))
        await viewer.frame()


# ---- who is gone ----


async def test_a_viewer_that_closes_is_noticed_at_once() -> None:
    async with live() as server:
        async with watching(server) as viewer:
            await viewer.frame()
        await until(lambda: len(server.services.viewers) == 0, "departure")
        await until(lambda: server.services.gateway.info("main").viewers == 0, "empty hall")


async def test_a_viewer_that_falls_silent_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cable was pulled: nothing says goodbye. aiortc itself needs half a minute."""
    monkeypatch.setattr("server.webrtc.viewers.CHECK_S", 0.05)
    async with live(config(viewer_timeout_s=1.0)) as server, watching(server) as viewer:
        await viewer.frame()
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
