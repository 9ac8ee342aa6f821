"""WHEP conformance: what existing players send, and what the draft requires of a server."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest

from server.config import IceServer
from server.webrtc.signalling.offer import MAX_SDP_BYTES
from tests.rigs.server.server_rig import SDP, config, live, watcher, watching
from tests.server.http.routes.whep import post

WHEP = "/v1/sessions/main/whep"

FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}

CANDIDATE = "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n"


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
    ("query", "rung"), [("", 1), ("?start_kbps=4000", 0), ("?start_kbps=1800", 1), ("?start_kbps=20", 3)]
)
async def test_a_viewer_that_joins_again_starts_with_the_rate_that_it_had(query: str, rung: int) -> None:
    settings = config()
    media = replace(settings.worker.media, bitrate_bps=3_000_000)
    settings = replace(settings, worker=replace(settings.worker, media=media))
    async with live(settings) as server, watching(server, query=query) as viewer:
        await viewer.frame()
        (seen,) = server.services.viewers
        assert seen.media is not None
        assert (seen.media.control.rung, seen.media.control.why) == (rung, "start")


@pytest.mark.parametrize("kbps", ["", "0", "-900", "9e2", "1000001", "9" * 5000, "\u0669"])
async def test_a_start_rate_that_is_no_rate_is_refused(kbps: str) -> None:
    async with live() as server, watcher(codecs=("vp8",)) as viewer:
        answer = await post(server, await viewer.offer(), f"?start_kbps={quote(kbps)}")
        assert (answer.status_code, answer.json()["field"]) == (400, "start_kbps")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?codec=theora", 400, "invalid"),
        ("?codec=av1", 406, "not_acceptable"),
        ("?codec=h264", 406, "not_acceptable"),
    ],
)
async def test_an_unavailable_codec_is_refused(query: str, status: int, code: str) -> None:
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
async def test_a_garbage_offer_is_refused_with_a_clear_message(body: bytes, status: int, code: str) -> None:
    async with live() as server, watching(server) as viewer:
        answer = await post(server, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["field"] in ("sdp", "body")
        assert len(server.services.viewers) == 1
        await viewer.frame()


async def test_an_offer_without_our_codecs_is_not_acceptable() -> None:
    async with live() as server, watcher(codecs=("vp8",)) as viewer:
        answer = await post(server, (await viewer.offer()).replace("VP8/", "H265/"))
        assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


async def test_only_sdp_is_accepted() -> None:
    async with live() as server:
        answer = await server.http.post(WHEP, json={"sdp": "v=0"})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_type")


async def test_an_unknown_session_is_reported() -> None:
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


async def test_trickled_candidates_are_accepted_with_and_without_if_match() -> None:
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
async def test_a_malformed_fragment_is_refused_and_the_video_continues(body: str | bytes) -> None:
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
async def test_an_unsupported_method_is_told_the_supported_ones(method: str, path: str, allowed: str) -> None:
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


async def test_clients_that_may_watch_get_the_ice_servers_before_the_offer() -> None:
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
