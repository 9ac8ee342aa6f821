"""Clips and HLS: the files open in players and contain the frames that were sent."""

from __future__ import annotations

import io
from pathlib import Path

import av
import httpx
import pytest

from engine.videofile.decode import decoder
from server.recording.picture import Visit
from server.webrtc.fanout import Subscription
from server.webrtc.rtp.packetize import Payloads
from tests.rigs.server.server_rig import Live, config, live, until, watching

CLIP, HLS = "/v1/sessions/main/clip", "/v1/sessions/main/hls"


def pictures(data: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(data), "r") as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize(("codec", "kind"), [("h264", "video/mp4"), ("vp8", "video/webm")])
async def test_a_clip_is_made_of_the_packets_that_were_sent(codec: str, kind: str) -> None:
    async with live() as server, watching(server, codecs=(codec,)) as viewer:
        for _ in range(20):
            await viewer.frame()
        clip = await server.http.get(CLIP, params={"seconds": "5"})
        assert (clip.status_code, clip.headers["content-type"]) == (200, kind)
        frames = pictures(clip.content)
        assert len(frames) >= 16
        assert (frames[0].width, frames[0].height) == (320, 192)
        times = [f.time or 0.0 for f in frames]
        assert times == sorted(set(times))


@pytest.mark.parametrize("codec", ["vp9", "av1"])
async def test_vp9_and_av1_go_into_webm(codec: str) -> None:
    """aiortc cannot receive these codecs, so the viewer is a subscription."""
    async with live() as server:
        fanout, got = server.services.gateway.session("main").fanout, list[Payloads]()

        def take(frame: Payloads) -> bool:
            got.append(frame)
            return True

        fanout.join(Subscription(codec, take))
        await until(lambda: len(got) > 8, f"frames of {codec}")
        clip = await server.http.get(CLIP)
        assert (clip.status_code, clip.headers["content-type"]) == (200, "video/webm")
        with av.open(io.BytesIO(clip.content), "r") as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == (320, 192)
            context = decoder(codec)
            frames = [f for packet in container.demux(stream) if packet.size for f in context.decode(packet)]
            assert len(frames) >= 8
        with Visit(fanout) as visit:
            assert await visit.picture(20)


async def test_without_a_viewer_there_is_no_clip() -> None:
    async with live() as server:
        clip = await server.http.get(CLIP)
        assert (clip.status_code, clip.json()["code"]) == (503, "unavailable")


@pytest.mark.parametrize("seconds", ["0", "61", "nan", "x", ""])
async def test_a_length_that_is_none_is_refused(seconds: str) -> None:
    async with live() as server:
        clip = await server.http.get(CLIP, params={"seconds": seconds})
        assert (clip.status_code, clip.json()["field"]) == (400, "seconds")


async def playlist(server: Live, query: str = "", path: str = HLS) -> list[str]:
    answer = await server.http.get(f"{path}/index.m3u8{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/vnd.apple.mpegurl")
    return answer.text.splitlines()


async def test_a_player_without_webrtc_plays_hls(tmp_path: Path) -> None:
    async with live() as server:
        lines = await playlist(server)
        assert lines[0] == "#EXTM3U"
        first, *others = [line for line in lines if line.endswith(".m4s")]
        assert len(others) >= 2, "Chromium gives up on a playlist of one segment"
        initial = (await server.http.get(f"{HLS}/init.mp4")).content
        segment = (await server.http.get(f"{HLS}/{first}")).content
        frames = pictures(initial + segment)
        assert 8 <= len(frames) <= 60
        assert frames[0].key_frame
        assert server.services.gateway.info("main").viewers == 1
        assert (await server.http.get(f"{HLS}/999999.m4s")).status_code == 404
        assert (await server.http.get(f"{HLS}/x")).status_code == 404


async def test_hls_ends_without_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async with live() as server:
        await playlist(server)
        monkeypatch.setattr("server.recording.hls.IDLE_S", 0.0)
        server.services.close_hls(idle_only=True)
        assert server.services.gateway.info("main").viewers == 0


async def test_a_token_may_stand_in_the_query_and_is_handed_on() -> None:
    async with live(config()) as server:
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a dog"})).json()
        path = f"/v1/sessions/{mine['id']}/hls"
        assert (await server.http.get(f"{path}/index.m3u8")).status_code == 401
        assert (await server.http.get(f"/v1/sessions/{mine['id']}/clip")).status_code == 401
        lines = await playlist(server, f"?token={mine['view_token']}", path)
        part = next(line for line in lines if ".m4s" in line)
        answer: httpx.Response = await server.http.get(f"{path}/{part}")
        assert answer.status_code == 200
